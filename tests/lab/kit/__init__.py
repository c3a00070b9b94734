"""The lab: real servers, images built in code, faults planted in what they store.

| module | gives |
| --- | --- |
| `binaries` | the programs that `tools/lab-install` unpacked; absent is an error, never a skip |
| `process` | a server that dies, and unmounts, with the tests; `scratch()` folders |
| `daemon` | `Containerd(version, base)`: a containerd of any release, its ctr and its CRI |
| `dockerd` | `Dockerd(containerd, base)`: the engine with containerd's image store |
| `snapshotters` | what each built-in snapshotter needs: loop devices, programs, configuration |
| `proxies` | soci-snapshotter and nydus-snapshotter, and images that they read lazily |
| `registry` | `Registry(base)`: a registry that images are pushed to; TLS and credentials on request |
| `bug` | the missing-blobs bug, reproduced the way it happens to people |
| `faults` | one function for each way a store breaks |
"""
