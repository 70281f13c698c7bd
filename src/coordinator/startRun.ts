// `coordinator start`, from config to exit code: open the data, listen, gather the workers, train, save, send everybody home.
// Invariant: whatever ends a run, its workers are told, its files are closed, and no process of it stays behind.

import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import type { RunConfig } from '../spec/config.ts';
import { CrosstowerError, DataError, exitCodeOf, exitCodes } from '../spec/errors.ts';
import type { ExitCode } from '../spec/errors.ts';
import { networkFor, planNetwork } from '../spec/network.ts';
import type { NetworkPlan } from '../spec/network.ts';
import { checkLayerNames, gradientsWanted } from '../spec/trainedLayers.ts';
import { parameterCount, towers } from '../spec/layout.ts';
import { initialScheduleState, totalSteps } from '../spec/schedule.ts';
import { openSafetensors } from '../formats/safetensors.ts';
import type { SafetensorsFile } from '../formats/safetensors.ts';
import { fitWeights } from '../formats/weightsFile.ts';
import { CoordinatorSocket } from '../protocol/coordinatorSocket.ts';
import { cacheFolder } from '../data/fashionMnist.ts';
import type { DataSource } from '../data/batch.ts';
import { openData } from '../data/openData.ts';
import { fileNames } from './checkpoint.ts';
import { Checkpoints } from './checkpoints.ts';
import { drawnState, stateFrom } from './initialState.ts';
import type { InitialState, TensorSource } from './initialState.ts';
import { LocalWorkers } from './localWorkers.ts';
import { openModel } from './modelSource.ts';
import { Progress, percent } from './progress.ts';
import type { ResumePoint } from './resume.ts';
import { RunFolder } from './runFolder.ts';
import { train } from './training.ts';
import type { RunState, TrainingResult } from './training.ts';
import { WorkerGroup } from './workerGroup.ts';

export interface StartOptions {
  readonly config: RunConfig;
  /** `tcp://HOST:PORT` or `ipc://PATH`. */
  readonly bind: string;
  readonly runDir: string;
  /** The checkpoint that the run goes on from; none for a new run. */
  readonly resume: ResumePoint | undefined;
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
  const folder = new RunFolder(runDir, {
    config,
    ...(options.resume?.inPlace === true ? { resumeAtBytes: options.resume.manifest.metricsBytes } : {}),
    say: (line) => {
      progress.say(line);
    },
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

interface RunIdentity {
  readonly run: string;
  readonly generation: number;
}

interface Desk {
  readonly progress: Progress;
  readonly folder: RunFolder;
  /** Shows a line and logs it. */
  readonly say: (line: string) => void;
}

async function runInFolder(options: StartOptions & Desk): Promise<ExitCode> {
  const { config, folder, say } = options;
  // A run that goes on is the same run, one generation later: what its last coordinator left in a queue is stale.
  const { resume } = options;
  const isSameRun = resume?.inPlace === true;
  const run: RunIdentity = {
    run: isSameRun ? resume.manifest.run : randomUUID(),
    generation: isSameRun ? resume.manifest.generation + 1 : 1,
  };
  const socket = await CoordinatorSocket.bind({ address: options.bind, ...run, log: say });
  say(`run ${folder.path}, listening at ${socket.address}`);
  if (resume !== undefined) say(`going on after step ${String(resume.manifest.step)}, from ${resume.path}`);
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
      return await runWithData({ ...options, socket, data, local, run });
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
  options: StartOptions & Desk & { socket: CoordinatorSocket; data: DataSource; local: LocalWorkers; run: RunIdentity },
): Promise<ExitCode> {
  const { config, data, folder, progress, say, socket, local, now, packageVersion, resume, run } = options;
  const plan = planNetwork(networkFor(config), data.classes.length);
  gradientsWanted(plan.spec, config.trainOnly);
  checkLayerNames(plan.spec, config.skip, 'skip');
  if (resume !== undefined) checkSameData(resume, data);
  const start = await openStart(plan, options);
  const facts = {
    config,
    classes: plan.classes,
    picture: data.shape,
    mean: data.mean,
    deviation: data.deviation,
    packageVersion,
    state: start.state,
    peerAddress: peerAddressFor(socket.address),
  };
  const group = new WorkerGroup(socket, facts, say);
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
    await gatherUnlessStopped(group, stop, start.from.step);
    await start.close();
    const checkpoints = new Checkpoints({ folder: folder.paths.checkpoints, plan, keep: config.keep, say });
    const result = await train({
      config,
      data,
      group,
      folder,
      checkpoints,
      progress,
      from: start.from,
      facts: {
        ...run,
        packageVersion,
        config,
        classes: [...data.classes],
        data: { ...data.counts, mean: [...data.mean], deviation: [...data.deviation] },
      },
      stop,
      now,
    });
    const { lastPath } = checkpoints;
    if (lastPath !== undefined) await folder.publishModel(join(lastPath, fileNames.weights));
    summarise(result, options);
    const exitCode = result.stepsDone < steps ? exitCodes.stoppedEarly : exitCodes.done;
    if (lastPath !== undefined)
      progress.say(`checkpoint      ${lastPath}${exitCode === exitCodes.done ? '' : `, go on with --resume ${folder.path}`}`);
    group.dismiss(exitCode, exitCode === exitCodes.done ? 'the run is done' : 'the run was stopped');
    return exitCode;
  } catch (error) {
    group.dismiss(exitCodeOf(error), error instanceof Error ? error.message : String(error));
    throw error;
  }
}

/** What the towers and the run start from, and the files that are read for it. */
interface RunStart {
  readonly state: InitialState;
  readonly from: RunState;
  close(): Promise<void>;
}

async function openStart(plan: NetworkPlan, { resume, config, say }: StartOptions & Desk): Promise<RunStart> {
  const from = { step: 0, schedule: initialScheduleState, skippedBefore: 0 };
  if (resume !== undefined) return openCheckpoint(plan, resume);
  if (config.pretrained === undefined) return { state: drawnState, from, close: () => Promise.resolve() };
  const { weights: file } = await openModel(config.pretrained, say);
  const { loaded, unused } = fitWeights(file, plan, config.skip);
  say(
    `${file.path}: ${String(loaded.size)} tensors loaded${config.skip.length > 0 ? `, ${config.skip.join(', ')} drawn afresh` : ''}`,
  );
  if (unused.length > 0) say(`${file.path}: not used: ${unused.slice(0, 10).join(', ')}${unused.length > 10 ? ', ...' : ''}`);
  return {
    state: stateFrom(plan, { weights: { names: loaded, read: (name) => file.read(name) } }),
    from,
    close: () => file.close(),
  };
}

async function openCheckpoint(plan: NetworkPlan, resume: ResumePoint): Promise<RunStart> {
  const [weights, momentum] = await Promise.all(
    [fileNames.weights, fileNames.momentum].map((name) => openSafetensors(join(resume.path, name))),
  );
  if (weights === undefined || momentum === undefined) throw new Error('a checkpoint has two files');
  const source = (file: SafetensorsFile): TensorSource => ({
    names: new Set(file.shapes.keys()),
    read: (name) => file.read(name),
  });
  const { step, schedule, skippedBefore, best } = resume.manifest;
  return {
    state: stateFrom(plan, { weights: source(weights), momentum: source(momentum) }),
    from: { step, schedule, skippedBefore, ...(best === undefined ? {} : { best }) },
    close: async () => {
      await Promise.all([weights.close(), momentum.close()]);
    },
  };
}

/** Another set of pictures would be another run. */
function checkSameData({ manifest, path }: ResumePoint, { counts, classes, name }: DataSource): void {
  const before = `${String(manifest.data.train)} training and ${String(manifest.data.test)} test pictures`;
  const now = `${String(counts.train)} training and ${String(counts.test)} test pictures`;
  if (before !== now) throw new DataError(`${path} was made with ${before}, but ${name} has ${now}`);
  const other = manifest.classes.findIndex((label, i) => label !== classes[i]);
  if (other >= 0 || manifest.classes.length !== classes.length) {
    throw new DataError(
      `${path} has ${String(manifest.classes.length)} classes and ${name} has ${String(classes.length)}; class ${String(Math.max(other, 0))} is ` +
        `'${manifest.classes[other] ?? 'none'}' there and '${classes[other] ?? 'none'}' here`,
    );
  }
}

/** Waits for the workers; a stop meanwhile ends the run before it began. */
async function gatherUnlessStopped(group: WorkerGroup, stop: AbortSignal, step: number): Promise<void> {
  const abandon = (): void => {
    const saved = step === 0 ? 'nothing was saved' : `the checkpoint of step ${String(step)} is as it was`;
    group.fail(new CrosstowerError(exitCodes.stoppedEarly, `stopped before training began: ${saved}`));
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
  progress.say(`model           ${folder.paths.model}`);
  progress.say(`metrics         ${folder.paths.metrics}`);
}
