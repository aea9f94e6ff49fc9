"""A step of first light in tests: `python -m tests.fake_step FOLDER HOW`, which counts its runs."""

import os
import signal
import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    folder, how = Path(sys.argv[1]), sys.argv[2]
    with open(folder / "runs.txt", "a") as runs:
        runs.write("run\n")
    print("began", flush=True)
    match how:
        case "fails":
            sys.exit("a last line")
        case "refuses":
            print("error: no such device")
            sys.exit(2)
        case "lacks":
            import no_such_package.part  # noqa: F401
        case "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hangs":
            signal.pause()
        case "leaves":
            print(subprocess.Popen(["sleep", "600"]).pid)
