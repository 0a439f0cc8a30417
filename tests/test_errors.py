"""The tree of errors: codes for programs, messages for people."""

import pickle

import pytest

from ensembler import errors
from ensembler.errors import DataError, EnsemblerError, ImageError, RequestError, nearest


def every_error(cls=EnsemblerError):
    return [cls, *(one for below in cls.__subclasses__() for one in every_error(below))]


def test_every_class_of_errors_has_a_code_of_its_own():
    ours = [cls for cls in every_error() if cls.__module__ == errors.__name__]
    codes = {
        cls.__name__: cls.__dict__.get("code") for cls in ours if cls is not ImageError
    }
    assert None not in codes.values()
    assert len(set(codes.values())) == len(codes)


def test_the_tree_in_the_docstring_names_every_class():
    ours = [cls.__name__ for cls in every_error() if cls.__module__ == errors.__name__]
    assert [name for name in ours if f"{name} " not in errors.__doc__] == []


def test_an_image_error_says_its_fault_with_and_without_the_image():
    error = ImageError.of("a/b.png", "the file is empty", "empty")
    assert str(error) == "a/b.png: the file is empty"
    assert (error.fault, error.code, error.exit_code) == ("the file is empty", "empty", 2)
    assert DataError("no label").fault == "no label"


def test_an_image_error_survives_a_process():
    error = pickle.loads(pickle.dumps(ImageError.of("a.png", "cut", "unreadable")))
    assert (str(error), error.fault, error.code) == ("a.png: cut", "cut", "unreadable")
    assert (
        ImageError("a.png: cut").fault == "a.png: cut"
    )  # as a loader process builds it again


def test_a_request_error_is_a_value_error():
    with pytest.raises(ValueError, match="wrong"):
        raise RequestError("wrong")


def test_the_nearest_names_come_before_a_list_of_all():
    assert nearest("resnett", ["resnet", "vit"]) == "did you mean 'resnet'?"
    assert nearest("zzz", ["resnet", "vit"]) == "choose from resnet, vit"
    assert nearest("x", []) == "there are none"
