"""Task vectors in 8 bits lose what they are told to lose, and the fused pass adds exactly what they unpack to."""

import pytest
import torch

pytest.importorskip("triton", reason="the kernels need Triton: pip install 'evovlm[gpu]'")

from evovlm.methods import Operand, Tables, merge_tensor, resolve_options
from evovlm.methods.draws import Draws, draw_key
from evovlm.methods.kernels.eight_bit import pack, unpack
from evovlm.methods.kernels.launch import merge_batch
from evovlm.methods.kernels.layout import Operands, make_batch
from evovlm.methods.kernels.numbers import divisors_of, rows_of
from tests.methods.kernels.fusing import DEVICE, SMALL, share_of
from tests.methods.merging import make_models, same_bits


def test_the_error_is_under_a_hundredth_of_normal_task_vectors():
    delta = torch.randn(100_003, generator=torch.Generator().manual_seed(0)) * 0.002
    packed = pack(delta)
    lost = (delta - unpack(packed.values, packed.scales)).double()
    assert packed.error == pytest.approx(float(lost.square().sum()))
    assert 0.003 < (packed.error / packed.size) ** 0.5 < 0.01


def test_zeros_and_powers_of_two_are_exact():
    delta = torch.cat([torch.zeros(64), torch.tensor([127.0, -64.0, 1.0] * 10)])
    packed = pack(delta)
    assert torch.equal(unpack(packed.values, packed.scales), delta)


@pytest.mark.parametrize("method", ["dare_ties", "ties", "task_arithmetic"])
def test_a_merge_of_packed_vectors_is_the_merge_of_what_they_stand_for(method):
    models = make_models((11, 45), 2)
    base = models.base.to(DEVICE).flatten()
    packed = [pack(source.to(DEVICE).flatten() - base) for source in models.sources]
    deltas = [unpack(one.values, one.scales) for one in packed]
    options = resolve_options(method, None, None, 1.0, 0.15, 0.01)
    target = torch.full_like(base, torch.nan)
    operands = Operands(target, base, tuple(p.values for p in packed), tuple(p.scales for p in packed))
    batch = make_batch([operands], torch.float32, DEVICE, SMALL.groups, SMALL.repeats)
    shares = [share_of(delta, 0.6, 0.4, draw_key(0, name, "w")) for delta, name in zip(deltas, "ab", strict=True)]
    batch.numbers.copy_(torch.from_numpy(rows_of(method, options, [shares])))
    batch.divisors.copy_(torch.from_numpy(divisors_of(method, options, [shares])))
    merge_batch(batch, method, options, SMALL)
    reference = [
        Operand(source.flatten(), 0.6, 0.4, Draws(0, name, "w", keep=True), Tables(delta=delta.cpu().numpy()))
        for source, name, delta in zip(models.sources, "ab", deltas, strict=True)
    ]
    expected = merge_tensor(method, models.base.flatten(), reference, options, dtype=torch.float32)
    assert same_bits(target.cpu(), expected)
