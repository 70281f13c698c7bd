#!/usr/bin/env node
// The `worker` command: the one place of this process where arguments, environment, signals and clocks come in.

import { availableParallelism } from 'node:os';
import { performance } from 'node:perf_hooks';
import yargs from 'yargs';
import { hideBin } from 'yargs/helpers';
import { UsageError } from '../spec/errors.ts';
import { exitWith } from '../spec/exit.ts';
import { defaultAddress, workerPlace } from '../spec/launchEnvironment.ts';
import type { WorkerPlace } from '../spec/launchEnvironment.ts';
import { packageVersion } from '../spec/packageRoot.ts';
import { stopOnSignals } from '../spec/stopSignals.ts';
import { checkGpu, listGpus, readSetup, workerEnvironment } from './environment.ts';
import type { DeviceChoice } from './environment.ts';
import { exitWithParent, isWorkerProcess, launchWorkerProcess, stopFromLauncher } from './launch.ts';
import { readSecurity, warnIfInsecure } from './security.ts';

function parseArguments() {
  return yargs(hideBin(process.argv))
    .scriptName('worker')
    .usage('$0 --gpu N | --cpu [options]\n\nHolds one tower of the network, or both, and trains it as the coordinator says.')
    .options({
      coordinator: {
        type: 'string',
        requiresArg: true,
        describe: `Where the coordinator listens [default: $MASTER_ADDR:$MASTER_PORT, else ${defaultAddress}]`,
      },
      gpu: {
        type: 'string',
        requiresArg: true,
        describe: 'Compute on this NVIDIA GPU and no other; auto: by LOCAL_RANK, as when nothing is said and that is set',
        conflicts: 'cpu',
      },
      cpu: { type: 'boolean', describe: 'Compute on the CPU' },
      threads: {
        type: 'number',
        requiresArg: true,
        describe: 'CPU threads (default: half of the cores, all with --tower both)',
        implies: 'cpu',
      },
      tower: {
        type: 'string',
        requiresArg: true,
        choices: ['0', '1', 'both', 'auto'] as const,
        describe: 'Which tower to hold; auto takes a free one [default: tower RANK % 2, else auto]',
      },
      replica: {
        type: 'string',
        requiresArg: true,
        default: 'auto',
        describe: 'Which pair of towers to be one of, from 0, with --replicas; auto takes the first that lacks the tower',
      },
      'join-timeout': {
        type: 'number',
        requiresArg: true,
        default: 60,
        describe: 'Seconds to wait for the coordinator and the other worker',
      },
      'peer-address': {
        type: 'string',
        requiresArg: true,
        describe:
          'Where tower 0 listens for tower 1, and on whose host for another replica, such as tcp://10.0.0.5:0; or where tower 1 reaches it [default: where the route to the coordinator begins]',
      },
      key: { type: 'string', requiresArg: true, describe: "File with this worker's secret key", implies: 'coordinator-key' },
      'coordinator-key': {
        type: 'string',
        requiresArg: true,
        describe: "The coordinator's public key, or a file with it",
        implies: 'key',
      },
      insecure: { type: 'boolean', describe: 'Go beyond this machine without keys: anybody on the way can read and change all' },
    })
    .example('$0 --gpu 0', 'a tower on GPU 0, coordinator on this machine')
    .example('$0 --gpu 1 --tower 1 --coordinator tcp://10.0.0.5:5570', 'tower 1 on GPU 1 of another machine')
    .example('$0 --cpu --threads 1', 'a tower on one CPU core')
    .example('$0 --gpu 0 --tower both', 'both towers on one GPU')
    .example('RANK=1 MASTER_ADDR=node1 $0 --gpu auto', 'tower 1, as a launcher says it')
    .example('$0 --gpu 0 --key tower0.key --coordinator-key coordinator.pub --coordinator tcp://10.0.0.5:5570', 'encrypted')
    .epilogue(
      'Environment, which flags win over: RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, as torchrun sets them; in a task of' +
        ' srun SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID and SLURM_LAUNCH_NODE_IPADDR; in an indexed Kubernetes job JOB_COMPLETION_INDEX' +
        ' (docs/launching.md).\n\n' +
        'Exit codes: 0 done, 2 usage, 3 peer lost, 4 refused, 8 out of memory, 75 stopped early.',
    )
    .version(packageVersion())
    .strict()
    .wrap(110)
    .fail((message, error: unknown) => {
      // yargs spreads some of its sentences over lines.
      throw new UsageError(`${(message || String(error)).replace(/\s*\n\s*/g, ' ')}; see worker --help`);
    })
    .parseSync();
}

type Arguments = ReturnType<typeof parseArguments>;

function choosePlace({ tower, coordinator, gpu, cpu }: Arguments): WorkerPlace {
  if (gpu !== undefined && gpu !== 'auto' && !/^\d+$/.test(gpu)) {
    throw new UsageError(`--gpu takes the number of a GPU, not ${gpu}`);
  }
  const number = gpu === undefined || gpu === 'auto' ? gpu : Number(gpu);
  return workerPlace({ tower, coordinator, gpu: number, cpu: cpu === true }, process.env, () => listGpus().length);
}

function chooseDevice({ cpu, threads }: Arguments, { gpu, tower }: WorkerPlace): DeviceChoice {
  if (gpu !== undefined) return { kind: 'gpu', index: gpu };
  if (cpu !== true) throw new UsageError('say what to compute on: --gpu N, or --cpu');
  const cores = availableParallelism();
  const chosen = threads ?? (tower === 'both' ? cores : Math.max(1, Math.floor(cores / 2)));
  if (!Number.isInteger(chosen) || chosen < 1) {
    throw new UsageError(`--threads takes a whole number from 1, not ${String(chosen)}`);
  }
  return { kind: 'cpu', threads: chosen };
}

/** Before the real worker process is started, so that what is wrong is said at once. */
function checkJoinTimeout({ joinTimeout }: Arguments): void {
  if (!(joinTimeout > 0 && 1000 * joinTimeout < 2 ** 31))
    throw new UsageError(`--join-timeout takes seconds, more than 0 and at most 24 days, not ${String(joinTimeout)}`);
}

function chooseReplica({ replica }: Arguments): number | 'auto' {
  if (replica === 'auto') return replica;
  if (!/^\d{1,2}$/.test(replica)) throw new UsageError(`--replica takes the number of a pair from 0, or auto, not ${replica}`);
  return Number(replica);
}

function log(line: string): void {
  process.stdout.write(`worker: ${line}\n`);
}

async function main(): Promise<number> {
  const args = parseArguments();
  const place = choosePlace(args);
  const device = chooseDevice(args, place);
  const replica = chooseReplica(args);
  checkJoinTimeout(args);
  // Here and in the real process: what is wrong with a key is said before anything starts.
  const security = { ...args, coordinator: place.coordinator };
  const curve = readSecurity(security);
  if (!isWorkerProcess()) {
    place.notes.forEach(log);
    const setup = readSetup();
    if (device.kind === 'gpu') checkGpu(device.index, listGpus(), setup);
    warnIfInsecure(security, log);
    const stop = stopOnSignals(log, () => performance.now());
    return launchWorkerProcess(workerEnvironment(device, setup), stop);
  }
  exitWithParent();
  // TensorFlow loads here, in the environment that was made for it.
  const [{ serve }, { deviceInfo }] = await Promise.all([import('./serve.ts'), import('../tower/tensorflow.ts')]);
  const { kind, tensorflow } = deviceInfo();
  if (kind !== device.kind) throw new UsageError(`TensorFlow ${tensorflow} cannot use the GPU: is its CUDA driver too old?`);
  const deviceName = device.kind === 'gpu' ? `GPU ${String(device.index)}` : `CPU, ${String(device.threads)} threads`;
  return serve({
    address: place.coordinator,
    tower: place.tower === '0' ? 0 : place.tower === '1' ? 1 : place.tower,
    replica,
    device: `${deviceName}, TensorFlow ${tensorflow}`,
    packageVersion: packageVersion(),
    joinTimeoutMs: 1000 * args.joinTimeout,
    ...(args.peerAddress === undefined ? {} : { peerAddress: args.peerAddress }),
    curve,
    insecure: args.insecure === true,
    stop: stopFromLauncher(),
    log,
  });
}

exitWith('worker', main);
