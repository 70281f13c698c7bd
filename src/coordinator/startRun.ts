// `coordinator start`, from config to exit code: open the data, listen, gather the workers, train, save, send everybody home.
// Invariant: whatever ends a run, its workers are told, its files are closed, and no process of it stays behind.

import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import type { RunConfig } from '../spec/config.ts';
import { CrosstowerError, exitCodeOf, exitCodes } from '../spec/errors.ts';
import type { ExitCode } from '../spec/errors.ts';
import { networkFor, planNetwork } from '../spec/network.ts';
import { checkLayerNames, gradientsWanted } from '../spec/trainedLayers.ts';
import { parameterCount, towers } from '../spec/layout.ts';
import { totalSteps } from '../spec/schedule.ts';
import { CoordinatorSocket } from '../protocol/coordinatorSocket.ts';
import { cacheFolder } from '../data/fashionMnist.ts';
import type { DataSource } from '../data/batch.ts';
import { openData } from '../data/openData.ts';
import { LocalWorkers } from './localWorkers.ts';
import { Progress, percent } from './progress.ts';
import { RunFolder } from './runFolder.ts';
import { saveModel } from './saveModel.ts';
import { train } from './training.ts';
import type { TrainingResult } from './training.ts';
import { WorkerGroup } from './workerGroup.ts';

export interface StartOptions {
  readonly config: RunConfig;
  /** `tcp://HOST:PORT` or `ipc://PATH`. */
  readonly bind: string;
  readonly runDir: string;
  /** Arguments of the workers to start on this machine; none when they are started elsewhere. */
  readonly localWorkers: readonly { readonly tower: '0' | '1' | 'both'; readonly args: readonly string[] }[];
  readonly loaderThreads: number;
  readonly packageVersion: string;
  readonly output: NodeJS.WriteStream;
  readonly stop: AbortSignal;
  readonly now: () => number;
}

/** Runs one training from start to end and gives its exit code; throws what ended it early other than a stop. */
export async function startRun(options: StartOptions): Promise<ExitCode> {
  const { config, runDir, now, output } = options;
  const progress = new Progress({ output, now });
  const folder = new RunFolder(runDir, config, (line) => {
    progress.say(line);
  });
  const say = (line: string): void => {
    progress.say(line);
    folder.log(line);
  };
  try {
    return await runInFolder({ ...options, progress, folder, say });
  } catch (error) {
    folder.log(`ended: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
    throw error;
  } finally {
    await folder.close();
  }
}

interface Desk {
  readonly progress: Progress;
  readonly folder: RunFolder;
  /** Shows a line and logs it. */
  readonly say: (line: string) => void;
}

async function runInFolder(options: StartOptions & Desk): Promise<ExitCode> {
  const { config, folder, say } = options;
  const socket = await CoordinatorSocket.bind({ address: options.bind, run: randomUUID(), generation: 1, log: say });
  say(`run ${folder.path}, listening at ${socket.address}`);
  // Workers load TensorFlow while the data is opened here; what they say meanwhile waits in the socket.
  const local = new LocalWorkers(
    options.localWorkers.map(({ tower, args }) => ({
      name: tower === 'both' ? 'towers 0 and 1' : `tower ${tower}`,
      towers: tower === 'both' ? towers : [tower === '0' ? 0 : 1],
      args: ['--coordinator', socket.address, '--tower', tower, ...args],
      logPath: folder.workerLog(tower),
    })),
  );
  try {
    const data = await openData(config, {
      cropSize: networkFor(config).inputSize,
      threads: options.loaderThreads,
      cacheFolder: cacheFolder(process.env),
      log: say,
    });
    try {
      return await runWithData({ ...options, socket, data, local });
    } finally {
      await data.close();
    }
  } finally {
    local.expectEnd();
    socket.close();
    await local.stop();
  }
}

async function runWithData(
  options: StartOptions & Desk & { socket: CoordinatorSocket; data: DataSource; local: LocalWorkers },
): Promise<ExitCode> {
  const { config, data, folder, progress, say, socket, local, now, packageVersion } = options;
  const plan = planNetwork(networkFor(config), data.classes.length);
  gradientsWanted(plan.spec, config.trainOnly);
  checkLayerNames(plan.spec, config.skip, 'skip');
  const facts = {
    config,
    classes: plan.classes,
    picture: data.shape,
    mean: data.mean,
    deviation: data.deviation,
    packageVersion,
  };
  const group = new WorkerGroup(socket, { ...facts, peerAddress: peerAddressFor(socket.address) }, say);
  local.onDeath(({ worker, error }) => {
    group.failProcess(worker.towers, error);
  });
  try {
    const steps = totalSteps(config, data.counts.train);
    say(
      `${data.name}: ${String(data.counts.train)} training and ${String(data.counts.test)} test pictures of ${String(plan.classes)} classes`,
    );
    say(
      `${config.network}: ${parameterCount(plan).toLocaleString('en')} parameters in two towers; ${String(steps)} steps of ${String(config.batch)} pictures`,
    );
    const stop = AbortSignal.any([options.stop, group.stopRequested.signal]);
    await gatherUnlessStopped(group, stop);
    const result = await train({ config, data, group, folder, progress, stop, now });
    await saveModel(folder.modelPath, { group, plan, step: result.stepsDone, classes: data.classes });
    summarise(result, options);
    const exitCode = result.stepsDone < steps ? exitCodes.stoppedEarly : exitCodes.done;
    group.dismiss(exitCode, exitCode === exitCodes.done ? 'the run is done' : 'the run was stopped');
    return exitCode;
  } catch (error) {
    group.dismiss(exitCodeOf(error), error instanceof Error ? error.message : String(error));
    throw error;
  }
}

/** Waits for the workers; a stop meanwhile ends the run before it began. */
async function gatherUnlessStopped(group: WorkerGroup, stop: AbortSignal): Promise<void> {
  const abandon = (): void => {
    group.fail(new CrosstowerError(exitCodes.stoppedEarly, 'stopped before training began: nothing was saved'));
  };
  if (stop.aborted) abandon();
  stop.addEventListener('abort', abandon, { once: true });
  await group.gather();
  stop.removeEventListener('abort', abandon);
}

/** Where tower 0 listens for tower 1 unless its command says otherwise: on this machine, where everything else is on it too. */
function peerAddressFor(address: string): string {
  const isLocal = address.startsWith('ipc:') || /^tcp:\/\/(127\.|localhost|\[::1\])/.test(address);
  return isLocal ? 'tcp://127.0.0.1:0' : 'tcp://0.0.0.0:0';
}

function summarise(result: TrainingResult, { folder, progress }: Desk): void {
  const { scores, stepsDone, imagesPerSecond, bytesPerStep } = result;
  if (scores !== undefined)
    progress.say(`test top-1      ${percent(scores.top1)}  (top-5 ${percent(scores.top5)}, loss ${scores.loss.toFixed(3)})`);
  progress.say(`speed           ${imagesPerSecond.toFixed(1)} images/s, median of ${String(stepsDone)} steps`);
  progress.say(`exchanged       ${(bytesPerStep / 1e6).toFixed(2)} MB a step between the towers, both directions together`);
  progress.say(`model           ${folder.modelPath}`);
  progress.say(`metrics         ${join(folder.path, 'metrics.jsonl')}`);
}
