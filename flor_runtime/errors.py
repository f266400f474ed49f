"""Everything that can go wrong in the runtime, in one small tree. The message says what to do."""


class FlorError(Exception):
    """Something that a user can act on: one line, exit code 2."""


class StoreError(FlorError):
    """The store can't be written or read: a full disk, a missing folder, a newer format."""


class CheckpointError(FlorError):
    """A checkpoint is torn, damaged or of another format; it is never used."""


class RestoreError(FlorError):
    """The state of a checkpoint doesn't fit the live objects; the code that made it is run instead."""


class ReplayError(FlorError):
    """A run can't be replayed: its code, its data or its environment is missing."""
