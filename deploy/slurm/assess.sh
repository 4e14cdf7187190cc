#!/bin/bash
# Assess every host of an allocation, once each; the files are merged where they lie.
#   sbatch --nodes=ALL --exclusive --gpus-per-node=8 assess.sh /shared/fleet general
#SBATCH --job-name=readiness
#SBATCH --ntasks-per-node=1
#SBATCH --time=00:45:00
#SBATCH --no-kill
set -u

folder=${1:?name a folder that all hosts see, for the files of the hosts}
profile=${2:-general}
mkdir -p "$folder"

# Hosts that were set aside before narrow what is assessed: they are listed in the report, and stay in its denominator.
{
  scontrol show hostnames "$SLURM_JOB_NODELIST" | sed 's/$/ expected/'
  sinfo --noheader --Node --states=drain,drained,draining,down,fail,maint --format='%n drained %E'
} | sort -u >"$folder/expected.txt"

# A host that is not ready exits with 1: that is a result, and must not end the others' work.
srun --kill-on-bad-exit=0 --wait=0 \
  readiness run --profile "$profile" -q -f "host=$folder/%h.json"

readiness fleet merge "$folder" -o "$folder/fleet.sqlite" --expect "$folder/expected.txt"
readiness fleet report "$folder/fleet.sqlite" -f "html=$folder/fleet.html" -q
