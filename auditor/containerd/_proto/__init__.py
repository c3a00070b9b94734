"""Generated from protos/ by tools/protos; not for editing."""

import auditor.containerd.protobuf_import  # before the generated modules import protobuf
