"""fsck for containerd: audits, explains, repairs and exports what a node's content store holds."""
