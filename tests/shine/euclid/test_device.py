"""Graphics cards are shared out between processes, though there need not be any here."""

import os
import subprocess
import sys
import uuid

import pytest

from shine.errors import ConfigurationError
from shine.euclid import device
from shine.euclid.cli import main

HOLD = """
import sys
from shine.euclid.device import claim_gpu
print(claim_gpu(share=False), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def cards(monkeypatch):
    """Three cards are visible, and this process holds none; returns their names."""
    names = [f"GPU-{uuid.uuid4()}" for _ in range(3)]  # other tests may run at the same time
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ", ".join(names))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setattr(device, "_held", held := {})
    yield names
    for reserved in held.values():
        reserved.close()


@pytest.fixture
def hold():
    """Start another process that claims a card and keeps it; returns which."""
    processes = []

    def start() -> str:
        command = [sys.executable, "-c", HOLD]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        return process.stdout.readline().strip()

    yield start
    for process in processes:
        process.communicate()


def test_each_process_takes_another_card(cards, hold):
    assert [hold(), hold()] == cards[:2]
    assert device.claim_gpu(share=False) == cards[2]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == cards[2]
    assert device.claim_gpu(share=False) == cards[2]  # and keeps it


def test_when_all_are_taken_the_next_process_is_refused(cards, hold, monkeypatch):
    [card, *_] = cards
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", card)
    assert hold() == card
    with pytest.raises(ConfigurationError, match=f"cards {card}, all in use by other shine"):
        device.claim_gpu(share=False)
    assert device.claim_gpu(share=True) == card  # unless they may share
    monkeypatch.setenv("SLURM_JOB_ID", "77")  # where the same name is of another card
    assert device.claim_gpu(share=False) == card


@pytest.mark.parametrize("visible", ["", "-1"])
def test_without_a_card_there_is_nothing_to_take(monkeypatch, visible):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert device.claim_gpu(share=False) is None


def test_a_required_card_that_is_missing_is_told_before_anything_is_read(
    monkeypatch, tmp_path, capsys
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    arguments = ["--manifest", "none.yaml", "--config", "none.yaml", "--output", str(tmp_path)]
    assert main([*arguments, "--require-gpu"]) == 2
    told = capsys.readouterr().err
    assert "a graphics card is required (compute.require_gpu): found only" in told
    assert "CUDA_VISIBLE_DEVICES=''" in told
    assert "none.yaml" not in told
