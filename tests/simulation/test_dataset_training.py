"""Training on stored pairs: a fit, and one that is interrupted and resumed."""

import runpy
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from diffsky import DiffusionDeconvolver
from diffsky.backend import select_backend
from diffsky.diffusion import Denoiser, UNet
from diffsky.diffusion.training import train_denoiser
from diffsky.simulation import PairDataset, PairStore

HELPER = runpy.run_path(str(Path(__file__).with_name("small_pairs.py")))
make_pair, CELL, PBLIMIT = HELPER["make_pair"], HELPER["CELL"], HELPER["PBLIMIT"]
N = 5


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    store = PairStore(tmp_path_factory.mktemp("pairs") / "store")
    for number in range(N):
        store.write(number * 10, make_pair(number, pwv=1.0 + number, array="alma.cycle5.3"))
    return store.path


def test_fit(path, tmp_path):
    pairs = PairDataset(path, patch_size=16)
    deconvolver = DiffusionDeconvolver(device="cpu").fit(pairs, steps=2, batch_size=2)
    deconvolver.save(tmp_path / "weights")
    again = DiffusionDeconvolver.load(tmp_path / "weights")
    assert again.description_["training"]["pairs"] == pairs.describe()


class Interrupted(PairDataset):
    """Fails at its fourth batch."""

    calls = 0

    def batch(self, numbers, device="cpu"):
        self.calls += 1
        if self.calls == 4:
            raise OSError("the disk is gone")
        return super().batch(numbers, device)


def train(pairs, folder):
    torch.manual_seed(0)
    denoiser = Denoiser(UNet(3, channels=(4,), blocks=1, width=4))
    train_denoiser(
        denoiser,
        pairs,
        steps=7,
        batch_size=2,
        ema_decay=0.5,
        backend=select_backend("cpu", "float32"),
        checkpoint_dir=folder,
        resume=True,
    )
    return torch.cat([p.detach().flatten() for p in denoiser.parameters()])


def test_resumed_training_ends_the_same(path, tmp_path):
    """Also over the end of an epoch, and with nothing in memory."""
    expected = train(PairDataset(path, patch_size=16), tmp_path / "one")
    with pytest.raises(OSError, match="the disk is gone"):
        train(Interrupted(path, patch_size=16), tmp_path / "other")
    resumed = train(PairDataset(path, patch_size=16), tmp_path / "other")
    assert_close(resumed, expected, rtol=1e-5, atol=1e-6)
    other_patches = train(PairDataset(path, patch_size=16, seed=1), tmp_path / "third")
    assert not torch.allclose(other_patches, expected)
