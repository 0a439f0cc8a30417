import pytest
import torch

from ensembler.networks.compiled import CompilerError, compile_network, compiler_faults


class CompilerTrouble(Exception):
    __module__ = "torch._inductor.exc"


def test_a_fault_of_the_compiler_says_how_to_do_without():
    with (
        pytest.raises(CompilerError, match=r"\(no such kernel\); step: eager"),
        compiler_faults(),
    ):
        raise CompilerTrouble("no such kernel\nand much more")


def test_a_fault_of_the_network_stays_what_it_is():
    with pytest.raises(ZeroDivisionError), compiler_faults():
        raise ZeroDivisionError


def test_a_compiled_network_shares_the_weights_of_its_network(monkeypatch):
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda call, **_: real(call, backend="eager"))
    network = torch.nn.Linear(3, 2)
    compiled, images = compile_network(network), torch.ones(4, 3)
    assert torch.equal(compiled(images), network(images))
    with torch.no_grad():
        network.weight.zero_()
    assert torch.equal(compiled(images), network.bias.expand(4, 2))


def test_networks_of_one_architecture_share_a_function_and_others_have_their_own(
    monkeypatch,
):
    called = []
    monkeypatch.setattr(torch, "compile", lambda call, **_: called.append(call) or call)
    for width in (3, 3, 5):
        compile_network(torch.nn.Linear(width, 2))
    assert called[0] is called[1]
    assert called[0].__code__ != called[2].__code__
