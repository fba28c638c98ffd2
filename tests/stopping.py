"""A way to interrupt a training where a test wants it."""


class Stop(Exception):
    """What stops a training."""


def stop_at(share):
    """Make a progress callback that interrupts when so much is done."""

    def progress(done, logs):
        if done >= share:
            raise Stop

    return progress
