"""Long campaigns of `make soak`: fuzzing, hostile servers, kills at random instants, disks that fail.

Each module `soak_NAME.py` is a campaign and has one function:

    def run(seconds: float, folder: Path) -> Outcome

`seconds` is the time to end after, `folder` an empty folder of its own that is deleted later. A campaign runs in a
process of its own, so that its peak memory is its own. `record.Recorder` counts cases, times them, and writes failing
inputs down small; `record.run_auditor` runs the program and measures it.
"""
