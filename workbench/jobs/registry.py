"""Which kinds of jobs there are and the lane each runs in."""

from workbench.core.job import Job
from workbench.jobs.compare import compare
from workbench.jobs.merge import merge
from workbench.jobs.train import train

JOBS: dict[str, Job] = {
    "train": Job(train, "device"),
    "merge": Job(merge, "host"),
    "compare": Job(compare, "device"),
}
