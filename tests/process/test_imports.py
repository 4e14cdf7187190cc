"""What takes long to import is imported where it is used, and not before."""

from __future__ import annotations

import subprocess
import sys

from tests.support.paths import ROOT


def test_no_stack_imports_torch_to_report_its_absence() -> None:
    code = (
        "import sys; from readiness import accelerators; "
        "[accelerators.stack(name).absence() for name in accelerators.NAMES]; print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.strip() == "False"


def test_nothing_heavy_is_loaded_before_it_is_needed() -> None:
    code = (
        "import sys; from readiness.documents import assessment; from readiness.rendering import formats; formats.formats();"
        "print([name for name in ('torch', 'jsonschema', 'junitparser', 'tabulate', 'rich') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert answer.stdout.strip() == "[]"


def test_reading_a_workload_and_writing_its_profile_needs_no_torch() -> None:
    code = (
        "import sys; from readiness.tracing import profile_writer, workload_schema; "
        "w = workload_schema.load(workload_schema.find('qwen3-8b')); profile_writer.profile(w, file='x.json.gz'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "False\n"


def test_listing_loads_nothing_that_runs_or_reads_assessments() -> None:
    code = (
        "import contextlib, io, sys; from readiness.__main__ import main; sys.argv = ['readiness', 'list']\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): main()\n"
        "assert 'readiness.cli.fleet_links' in sys.modules\n"
        "names = ('torch', 'psutil', 'pickle', 'sqlite3', 'readiness.isolation', 'readiness.distributed', 'readiness.simulator',\n"
        "    'readiness.judging', 'readiness.documents.assessment', 'readiness.engine.remote_hosts', 'readiness.rendering.charts')\n"
        "print([name for name in names if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert answer.stdout.strip() == "[]"
