"""Augmentations that misbehave, in a module that processes of their own can import."""

import os
import signal
import time

from ensembler.errors import DataError, RequestError


def turned(image, seed):
    return image[::-1].copy()


def killed(image, seed):
    os.kill(os.getpid(), signal.SIGKILL)


def bus_error(image, seed):
    os.kill(os.getpid(), signal.SIGBUS)


def hangs(image, seed):
    time.sleep(60)


def fails(image, seed):
    raise ZeroDivisionError("by nothing")


def refuses(image, seed):
    raise RequestError("leave Normalize out")


class Unreadable:
    """Pixels of which an image cannot be read."""

    shape = (13, 16, 16, 3)

    def __getitem__(self, rows):
        raise DataError("this image")
