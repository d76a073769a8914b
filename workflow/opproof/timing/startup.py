"""A process that starts up as a training job does, and ends after its first step.

`python -m opproof.timing.startup ENGINE BACKEND`, with settings as JSON on standard input, writes
FIRST_STEP once that is done.
"""

import dataclasses
import json
import subprocess
import sys
import time

from opproof.errors import BackendError
from opproof.settings import Settings, from_dict

FIRST_STEP = "first step done"


def seconds(settings: Settings, engine: str, backend: str) -> float:
    """Return the seconds from the start of such a process to its first step.

    Raises BackendError with the last line of what it says where it does not get there.
    """
    command = [sys.executable, "-m", __name__, engine, backend]
    start = time.perf_counter()
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdin and process.stdout
        process.stdin.write(json.dumps(dataclasses.asdict(settings)))
        process.stdin.close()
        said = ""
        for line in process.stdout:
            if line.strip() == FIRST_STEP:
                return time.perf_counter() - start
            said = line.strip() or said
    raise BackendError(said or f"it ended with status {process.returncode}")


def main() -> None:
    """Be that process."""
    # What a training job imports: all of it here, so that it counts.
    from opproof import device
    from opproof.lenet import initial_parameters, sample_orders
    from opproof.mnist import TRAIN_LABELS
    from opproof.timing import trainees

    engine, backend = sys.argv[1:]
    settings = from_dict(json.load(sys.stdin))
    where = device.resolve(settings.device)
    device.set_arithmetic(settings.precision, where)
    trained = trainees.engines.create(engine, settings, trainees.find(settings, backend), where)
    trained.begin(initial_parameters([0]))
    order = next(sample_orders(0, TRAIN_LABELS.shape[0]))[: settings.train.batch_size]
    trained.train(order.unsqueeze(0)).cpu()
    print(FIRST_STEP, flush=True)


if __name__ == "__main__":
    main()
