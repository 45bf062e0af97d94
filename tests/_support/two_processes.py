"""A training that torchrun, or a plain script, runs in two processes: see test_processes.

Arguments: the folder for results, and a JSON object of options. Each process writes its weights,
and its history and the pair numbers it made, or the error it met.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
from small_training import Pairs, make_denoiser, train, weights


def act(call, rank, *, fail=None, interrupt=None):
    """What goes wrong at some call of a rank."""
    if fail == [rank, call]:
        raise OSError("disk gone")
    if interrupt == [rank, call]:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)  # as a launcher passes a second one on


def main(folder, options):
    rank = int(os.environ.get("LOCAL_RANK", 0))
    faults = {name: options.pop(name, None) for name in ("fail", "interrupt")}
    pairs = Pairs(10, on_call=lambda call: act(call, rank, **faults))
    denoiser = make_denoiser()
    result = {"numbers": pairs.numbers}
    try:
        result["history"] = train(denoiser, pairs, devices=2, **options)
    except (Exception, KeyboardInterrupt) as error:
        result["error"] = f"{type(error).__name__}: {error}"
    torch.save(weights(denoiser), folder / f"weights-{rank}.pt")
    (folder / f"result-{rank}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
