// `cluster-launch.sh slurm`: writes a batch script and submits it. In the job the coordinator and the workers are tasks of srun, which find
// each other by the job's environment (src/spec/launchEnvironment.ts).
// Invariant: the script can be run again at any time, by us or by Slurm, and goes on from the run's newest checkpoint.

import { spawnSync } from 'node:child_process';
import { checkKeyChoice, coordinatorKeyFlags, keyOptions, workerKeyFiles } from './keys.mjs';
import { checkBuilt, commandIn, projectFolder } from './machine.mjs';
import { pairCount, readOptions, valueOfFlag, wholeNumber } from './options.mjs';
import { LaunchError } from './report.mjs';
import { quoted } from './shell.mjs';

const options = {
  time: { type: 'string', default: '1:00:00' },
  'save-before': { type: 'string', default: '120' },
  nodes: { type: 'string' },
  cpu: { type: 'boolean' },
  threads: { type: 'string' },
  sbatch: { type: 'string', multiple: true, default: [] },
  address: { type: 'string' },
  'dry-run': { type: 'boolean' },
  ...keyOptions,
};

export function launchSlurm(args) {
  // The value of --sbatch is an option itself, which parseArgs takes with an = only.
  const joined = args.flatMap((arg, i) =>
    args[i - 1] === '--sbatch' ? [] : arg === '--sbatch' ? [`--sbatch=${args[i + 1]}`] : [arg],
  );
  const { values, startFlags } = readOptions(joined, options);
  const script = batchScript(values, startFlags);
  if (values['dry-run']) {
    process.stdout.write(script);
    return 0;
  }
  checkBuilt();
  const sbatch = spawnSync('sbatch', [], { input: script, stdio: ['pipe', 'inherit', 'inherit'] });
  if (sbatch.error !== undefined)
    throw new LaunchError('there is no sbatch on the PATH: submit from a login node of a Slurm cluster');
  return sbatch.status === 0 ? 0 : 2;
}

/** The batch script; throws LaunchError. */
export function batchScript(values, startFlags) {
  const workers = 2 * pairCount(startFlags);
  const threads = wholeNumber('threads', values.threads, 'a number of threads such as 2');
  const nodes = wholeNumber('nodes', values.nodes, 'a number of nodes such as 2');
  const saveBefore = wholeNumber('save-before', values['save-before'], 'a number of seconds such as 120');
  const address = values.address ?? (nodes === 1 ? '127.0.0.1' : undefined);
  checkKeyChoice(values, address);
  if (valueOfFlag(startFlags, 'resume') !== undefined) {
    throw new LaunchError(
      "--resume is the launcher's to choose: a job goes on by itself; name the folder of a run to go on with by --run-dir",
    );
  }
  if (!/^[\d:-]+$/.test(values.time)) throw new LaunchError(`--time is a time limit such as 4:00:00, not '${values.time}'`);
  const unfit = values.sbatch.find((option) => !/^-[^\n]+$/.test(option));
  if (unfit !== undefined) throw new LaunchError(`--sbatch takes an option of sbatch such as --partition=gpu, not '${unfit}'`);

  const directives = [
    '--job-name=crosstower',
    `--ntasks=${workers}`,
    ...(nodes === undefined ? [] : [`--nodes=${nodes}`]),
    ...(values.cpu ? [`--cpus-per-task=${threads ?? 1}`] : ['--gpus-per-task=1']),
    `--time=${values.time}`,
    `--signal=B:USR1@${saveBefore}`,
    '--requeue',
    '--open-mode=append',
    '--output=crosstower-%j.log',
    ...values.sbatch,
  ];
  const runDir = valueOfFlag(startFlags, 'run-dir') === undefined ? ['--run-dir "runs/slurm-$SLURM_JOB_ID"'] : [];
  const coordinator = [
    quoted(commandIn(projectFolder, 'coordinator')),
    ...['start', '--resume auto', ...runDir],
    ...[...coordinatorKeyFlags(values), ...startFlags].map(quoted),
  ];
  const worker = [
    quoted(commandIn(projectFolder, 'worker')),
    ...(values.cpu ? ['--cpu', `--threads ${threads ?? 1}`] : ['--gpu auto']),
    ...workerKeyWords(values, workers),
  ];
  return template({ directives, coordinator: coordinator.join(' '), worker: worker.join(' '), workers, address });
}

/** A worker takes the key of its place. */
function workerKeyWords({ keys, insecure }, workers) {
  if (keys === undefined) return insecure ? ['--insecure'] : [];
  const files = workerKeyFiles(keys, workers);
  const secrets = files.secret.map(quoted).join(' ');
  const choice = '"$(set -- ' + secrets + '; shift "$SLURM_PROCID"; echo "$1")"';
  return ['--key', choice, '--coordinator-key', quoted(files.coordinator)];
}

function template({ directives, coordinator, worker, workers, address }) {
  return `#!/bin/bash
# A run of crosstower, written by scripts/cluster-launch.sh slurm: a coordinator and ${workers} workers, tasks of one job.
${directives.map((directive) => `#SBATCH ${directive}`).join('\n')}

set -u
export MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
${address === undefined ? '# Workers find the first node, where this script runs, by SLURM_LAUNCH_NODE_IPADDR.' : `export MASTER_ADDR=${quoted(address)}`}

srun --overlap --nodes=1 --ntasks=1 --nodelist="$SLURMD_NODENAME" \\
  ${coordinator} &
coordinator=$!

# A worker that is lost (exit code 3, or a signal) is started again: the coordinator decides how often the run goes on without one.
srun --ntasks=${workers} --kill-on-bad-exit=0 --label bash -c ${quoted(`
  until ${worker}; do
    code=$?
    (( code == 3 || code > 128 )) || exit "$code"
    sleep 1
  done`)} &
workers=$!

# Before the time limit Slurm sends USR1: the coordinator finishes the step, saves, exits with 75, and the job queues up again.
# So it does at scancel --batch --signal=TERM, but the job ends there. A plain scancel kills everything at once.
at_limit=0
trap 'signalled=1; at_limit=1; kill -USR1 "$coordinator"' USR1
trap 'signalled=1; kill -USR1 "$coordinator"' TERM
signalled=1
while [ "$signalled" = 1 ]; do
  signalled=0
  wait "$coordinator"
  code=$?
done

# Its end is the workers' too; what is left after that ends with the job.
for _ in {1..15}; do
  kill -0 "$workers" 2>/dev/null || break
  sleep 1
done

echo "the coordinator ended with exit code $code"
trap 'exit "$code"' TERM # Being queued again ends this script.
if [ "$code" = 75 ] && [ "$at_limit" = 1 ]; then
  scontrol requeue "$SLURM_JOB_ID" && sleep 60
fi
exit "$code"
`;
}
