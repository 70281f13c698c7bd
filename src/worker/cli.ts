#!/usr/bin/env node
// The `worker` command: the one place of this process where arguments, environment, signals and clocks come in.

import { availableParallelism } from 'node:os';
import { performance } from 'node:perf_hooks';
import yargs from 'yargs';
import { hideBin } from 'yargs/helpers';
import { UsageError } from '../spec/errors.ts';
import { exitWith } from '../spec/exit.ts';
import { packageVersion } from '../spec/packageRoot.ts';
import { stopOnSignals } from '../spec/stopSignals.ts';
import { checkGpu, listGpus, readSetup, workerEnvironment } from './environment.ts';
import type { DeviceChoice } from './environment.ts';
import { exitWithParent, isWorkerProcess, launchWorkerProcess, stopFromLauncher } from './launch.ts';

function parseArguments() {
  return yargs(hideBin(process.argv))
    .scriptName('worker')
    .usage('$0 --gpu N | --cpu [options]\n\nHolds one tower of the network, or both, and trains it as the coordinator says.')
    .options({
      coordinator: {
        type: 'string',
        requiresArg: true,
        default: 'tcp://127.0.0.1:5570',
        describe: 'Where the coordinator listens',
      },
      gpu: { type: 'number', requiresArg: true, describe: 'Compute on this NVIDIA GPU and no other', conflicts: 'cpu' },
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
        default: 'auto' as const,
        describe: 'Which tower to hold; auto takes a free one',
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
          'Where tower 0 listens for tower 1 (and on whose host for another replica), such as tcp://10.0.0.5:0; or where tower 1 reaches it, if not there',
      },
    })
    .example('$0 --gpu 0', 'a tower on GPU 0, coordinator on this machine')
    .example('$0 --gpu 1 --tower 1 --coordinator tcp://10.0.0.5:5570', 'tower 1 on GPU 1 of another machine')
    .example('$0 --cpu --threads 1', 'a tower on one CPU core')
    .example('$0 --gpu 0 --tower both', 'both towers on one GPU')
    .epilogue('Exit codes: 0 done, 2 usage, 3 peer lost, 4 refused, 8 out of memory, 75 stopped early.')
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

function chooseDevice(args: Arguments): DeviceChoice {
  if (args.gpu !== undefined) {
    if (!Number.isInteger(args.gpu) || args.gpu < 0)
      throw new UsageError(`--gpu takes the number of a GPU, not ${String(args.gpu)}`);
    return { kind: 'gpu', index: args.gpu };
  }
  if (args.cpu !== true) throw new UsageError('say what to compute on: --gpu N, or --cpu');
  const cores = availableParallelism();
  const threads = args.threads ?? (args.tower === 'both' ? cores : Math.max(1, Math.floor(cores / 2)));
  if (!Number.isInteger(threads) || threads < 1)
    throw new UsageError(`--threads takes a whole number from 1, not ${String(threads)}`);
  return { kind: 'cpu', threads };
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
  const device = chooseDevice(args);
  const replica = chooseReplica(args);
  checkJoinTimeout(args);
  if (!isWorkerProcess()) {
    const setup = readSetup();
    if (device.kind === 'gpu') checkGpu(device.index, listGpus(), setup);
    const stop = stopOnSignals(log, () => performance.now());
    return launchWorkerProcess(workerEnvironment(device, setup), stop);
  }
  exitWithParent();
  // TensorFlow loads here, in the environment that was made for it.
  const [{ serve }, { deviceInfo }] = await Promise.all([import('./serve.ts'), import('../tower/tensorflow.ts')]);
  const { kind, tensorflow } = deviceInfo();
  if (kind !== device.kind) throw new UsageError(`TensorFlow ${tensorflow} cannot use the GPU: is its CUDA driver too old?`);
  const place = device.kind === 'gpu' ? `GPU ${String(device.index)}` : `CPU, ${String(device.threads)} threads`;
  return serve({
    address: args.coordinator,
    tower: args.tower === '0' ? 0 : args.tower === '1' ? 1 : args.tower,
    replica,
    device: `${place}, TensorFlow ${tensorflow}`,
    packageVersion: packageVersion(),
    joinTimeoutMs: 1000 * args.joinTimeout,
    ...(args.peerAddress === undefined ? {} : { peerAddress: args.peerAddress }),
    stop: stopFromLauncher(),
    log,
  });
}

exitWith('worker', main);
