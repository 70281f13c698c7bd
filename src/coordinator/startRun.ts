// `coordinator start`, from config to exit code: open the data, listen, gather the workers, train, save, send everybody home.
// Invariant: whatever ends a run, its workers are told, its files are closed, and no process of it stays behind.

import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import type { RunConfig } from '../spec/config.ts';
import { UsageError, exitCodeOf, exitCodes } from '../spec/errors.ts';
import type { ExitCode } from '../spec/errors.ts';
import { networkFor, planNetwork } from '../spec/network.ts';
import { checkLayerNames, gradientsWanted } from '../spec/trainedLayers.ts';
import { parameterCount } from '../spec/layout.ts';
import { totalSteps } from '../spec/schedule.ts';
import type { ListenerCurve } from '../protocol/curveKeys.ts';
import { cacheFolder } from '../data/fashionMnist.ts';
import type { DataSource } from '../data/batch.ts';
import { openData } from '../data/openData.ts';
import { fileNames } from './checkpoint.ts';
import { Checkpoints } from './checkpoints.ts';
import { Commits } from './commits.ts';
import { trainThroughLosses } from './generations.ts';
import { logName } from './localChoice.ts';
import type { LocalChoice } from './localChoice.ts';
import { giveWay } from './priority.ts';
import { Progress, percent } from './progress.ts';
import type { ResumePoint } from './resume.ts';
import { RunFolder } from './runFolder.ts';
import { checkSameData, openStart } from './runStart.ts';
import { StepTraces } from './stepTraces.ts';
import type { TraceChoice } from './stepTraces.ts';
import type { TrainingResult } from './training.ts';
import { openGroup, withWorkplace } from './workplace.ts';
import type { Workplace } from './workplace.ts';

export interface StartOptions {
  readonly config: RunConfig;
  /** As in `WorkplaceOptions`. */
  readonly bind: string | undefined;
  readonly curve: ListenerCurve | undefined;
  readonly runDir: string;
  /** The checkpoint that the run goes on from; none for a new run. */
  readonly resume: ResumePoint | undefined;
  /** A run in this folder that never came to a checkpoint may be begun anew. */
  readonly mayBeginAnew: boolean;
  /** Workers to start on this machine; none when they are started elsewhere. */
  readonly localWorkers: readonly LocalChoice[];
  readonly loaderThreads: number;
  /** Steps to trace, and where to; none for an ordinary run. */
  readonly trace: TraceChoice | undefined;
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
    resumeAtBytes: options.resume?.inPlace === true ? options.resume.manifest.metricsBytes : options.mayBeginAnew ? 0 : undefined,
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
  const run = isSameRun ? resume.manifest.run : randomUUID();
  const workplaceOptions = {
    run,
    generation: isSameRun ? resume.manifest.generation + 1 : 1,
    bind: options.bind,
    curve: options.curve,
    localWorkers: options.localWorkers,
    logPath: (choice: LocalChoice) => folder.workerLog(logName(choice, config.replicas)),
    onListening: (address: string) => {
      say(`run ${folder.path}, listening at ${address}`);
      if (resume !== undefined) say(`going on after step ${String(resume.manifest.step)}, from ${resume.path}`);
    },
    say,
  };
  // Workers load TensorFlow while the data is opened here.
  return withWorkplace(workplaceOptions, async (workplace) => {
    const data = await openData(config, {
      cropSize: networkFor(config).inputSize,
      threads: options.loaderThreads,
      cacheFolder: cacheFolder(process.env),
      log: say,
    });
    if (options.localWorkers.length > 0) giveWay();
    try {
      return await runWithData({ ...options, workplace, data, run });
    } finally {
      await data.close();
    }
  });
}

async function runWithData(
  options: StartOptions & Desk & { workplace: Workplace; data: DataSource; run: string },
): Promise<ExitCode> {
  const { config, data, folder, progress, say, workplace, now, packageVersion, resume, run } = options;
  const plan = planNetwork(networkFor(config), data.classes.length);
  gradientsWanted(plan.spec, config.trainOnly);
  checkLayerNames(plan.spec, config.skip, 'skip');
  if (resume !== undefined) checkSameData(resume, data);
  checkReplicas(config, data.counts.train);
  const start = await openStart(plan, options);
  const facts = {
    config,
    classes: plan.classes,
    picture: data.shape,
    mean: data.mean,
    deviation: data.deviation,
    packageVersion,
    start: { state: start.state, step: start.from.step },
  };
  const group = openGroup(workplace, facts, say);
  try {
    const steps = totalSteps(config, data.counts.train);
    say(
      `${data.name}: ${String(data.counts.train)} training and ${String(data.counts.test)} test pictures of ${String(plan.classes)} classes`,
    );
    say(
      `${config.network}: ${parameterCount(plan).toLocaleString('en')} parameters in two towers${config.replicas === 1 ? '' : `, ${String(config.replicas)} replicas of them`}; ${String(steps)} steps of ${String(config.batch)} pictures`,
    );
    const stop = AbortSignal.any([options.stop, group.stopRequested.signal]);
    const checkpoints = new Checkpoints({
      folder: folder.paths.checkpoints,
      plan,
      keep: config.keep,
      lastStep: resume?.inPlace === true ? resume.manifest.step : undefined,
      stop,
      say,
    });
    const commits = new Commits({
      checkpoints,
      folder: folder.paths.checkpoints,
      plan,
      reopenStart: () => openStart(plan, options),
      say,
    });
    const traces =
      options.trace === undefined
        ? undefined
        : new StepTraces({
            ...options.trace,
            plan,
            batch: config.batch / config.replicas,
            from: start.from.step,
            to: steps,
            say,
            now,
          });
    const result = await trainThroughLosses(start, {
      config,
      traces,
      data,
      group,
      local: workplace.local,
      folder,
      commits,
      progress,
      facts: {
        run,
        packageVersion,
        config,
        classes: [...data.classes],
        data: { ...data.counts, mean: [...data.mean], deviation: [...data.deviation], picture: data.shape },
      },
      stop,
      now,
      say,
    });
    const { lastPath } = checkpoints;
    if (lastPath !== undefined) await folder.publishModel(join(lastPath, fileNames.weights));
    summarise(result, options);
    const exitCode = result.stepsDone < steps ? exitCodes.stoppedEarly : exitCodes.done;
    if (lastPath !== undefined)
      progress.say(`checkpoint      ${lastPath}${exitCode === exitCodes.done ? '' : `, go on with --resume ${folder.path}`}`);
    await group.dismiss(exitCode, exitCode === exitCodes.done ? 'the run is done' : 'the run was stopped');
    return exitCode;
  } catch (error) {
    await group.dismiss(exitCodeOf(error), error instanceof Error ? error.message : String(error));
    throw error;
  }
}

/** Throws UsageError where the last batch of an epoch has no picture for some replica. */
function checkReplicas({ batch, replicas }: RunConfig, trainCount: number): void {
  const last = trainCount % batch;
  if (last === 0 || last >= replicas) return;
  throw new UsageError(
    `--replicas ${String(replicas)}: the last batch of an epoch has ${String(last)} of ${String(trainCount)} pictures, fewer than there are replicas; ` +
      'choose another --batch, or leave some out with --limit-train',
  );
}

function summarise(result: TrainingResult, { folder, progress }: Desk): void {
  const { scores, stepsHere, imagesPerSecond, bytesPerStep, bytesSummedPerStep } = result;
  if (scores !== undefined)
    progress.say(`test top-1      ${percent(scores.top1)}  (top-5 ${percent(scores.top5)}, loss ${scores.loss.toFixed(3)})`);
  if (stepsHere > 0) {
    progress.say(`speed           ${imagesPerSecond.toFixed(1)} images/s, median of ${String(stepsHere)} steps`);
    progress.say(`exchanged       ${(bytesPerStep / 1e6).toFixed(2)} MB a step between the towers, both directions together`);
    if (bytesSummedPerStep > 0)
      progress.say(
        `summed          ${(bytesSummedPerStep / 1e6).toFixed(2)} MB a step around the replicas, all workers together`,
      );
  }
  progress.say(`model           ${folder.paths.model}`);
  progress.say(`metrics         ${folder.paths.metrics}`);
}
