"""Scripts run by one process, or by several that share the work."""

import os
import subprocess
import sys

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}


def launched(script, *arguments, processes=1):
    """Run a Python script to its end, which must be a good one."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", processes] if processes > 1 else []
    command = [str(part) for part in (sys.executable, *launch, script, *arguments)]
    done = subprocess.run(command, check=False, capture_output=True, env=ENVIRONMENT, timeout=500)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return done
