// Where a run starts: from its own draws, from pretrained weights, or from a checkpoint that it goes on from, its own after a loss.

import { join } from 'node:path';
import type { RunConfig } from '../spec/config.ts';
import { DataError } from '../spec/errors.ts';
import type { NetworkPlan } from '../spec/network.ts';
import { initialScheduleState } from '../spec/schedule.ts';
import { openSafetensors } from '../formats/safetensors.ts';
import type { SafetensorsFile } from '../formats/safetensors.ts';
import { fitWeights } from '../formats/weightsFile.ts';
import type { DataSource } from '../data/batch.ts';
import { fileNames } from './checkpoint.ts';
import type { ManifestFacts } from './checkpoint.ts';
import { drawnState, stateFrom } from './initialState.ts';
import type { InitialState, TensorSource } from './initialState.ts';
import { checkSameClasses, openModel } from './modelSource.ts';
import type { ResumePoint } from './resume.ts';

/** All that a step depends on beside the towers' weights and velocities. */
export type RunState = Pick<ManifestFacts, 'step' | 'schedule' | 'skippedBefore' | 'best'>;

/** What the towers and the run start from, and the files that are read for it. */
export interface RunStart {
  readonly state: InitialState;
  readonly from: RunState;
  /** Length of metrics.jsonl at this point. */
  readonly metricsBytes: number;
  close(): Promise<void>;
}

/** Opens the checkpoint that the run goes on from, or the pretrained weights; throws DataError where they do not fit the network. */
export async function openStart(
  plan: NetworkPlan,
  { resume, config, say }: { resume: ResumePoint | undefined; config: RunConfig; say: (line: string) => void },
): Promise<RunStart> {
  const from = { step: 0, schedule: initialScheduleState, skippedBefore: 0 };
  if (resume !== undefined) {
    const start = await openCheckpoint(plan, resume);
    return resume.inPlace ? start : { ...start, metricsBytes: 0 };
  }
  if (config.pretrained === undefined) return { state: drawnState, from, metricsBytes: 0, close: () => Promise.resolve() };
  const { weights: file } = await openModel(config.pretrained, say);
  const { loaded, unused } = fitWeights(file, plan, config.skip);
  say(
    `${file.path}: ${String(loaded.size)} tensors loaded${config.skip.length > 0 ? `, ${config.skip.join(', ')} drawn afresh` : ''}`,
  );
  if (unused.length > 0) say(`${file.path}: not used: ${unused.slice(0, 10).join(', ')}${unused.length > 10 ? ', ...' : ''}`);
  return {
    state: stateFrom(plan, { weights: { names: loaded, read: (name) => file.read(name) } }),
    from,
    metricsBytes: 0,
    close: () => file.close(),
  };
}

/** Opens a checkpoint that was verified. */
export async function openCheckpoint(
  plan: NetworkPlan,
  { path, manifest }: Pick<ResumePoint, 'path' | 'manifest'>,
): Promise<RunStart> {
  const [weights, momentum] = await Promise.all(
    [fileNames.weights, fileNames.momentum].map((name) => openSafetensors(join(path, name))),
  );
  if (weights === undefined || momentum === undefined) throw new Error('a checkpoint has two files');
  const source = (file: SafetensorsFile): TensorSource => ({
    names: new Set(file.shapes.keys()),
    read: (name) => file.read(name),
  });
  const { step, schedule, skippedBefore, best, metricsBytes } = manifest;
  return {
    state: stateFrom(plan, { weights: source(weights), momentum: source(momentum) }),
    from: { step, schedule, skippedBefore, ...(best === undefined ? {} : { best }) },
    metricsBytes,
    close: async () => {
      await Promise.all([weights.close(), momentum.close()]);
    },
  };
}

/** Another set of pictures would be another run: throws DataError that says what differs. */
export function checkSameData({ manifest, path }: ResumePoint, { counts, classes, name }: DataSource): void {
  const before = `${String(manifest.data.train)} training and ${String(manifest.data.test)} test pictures`;
  const now = `${String(counts.train)} training and ${String(counts.test)} test pictures`;
  // A checkpoint that `import` made has seen no pictures yet.
  const isImported = manifest.data.train === 0 && manifest.data.test === 0;
  if (before !== now && !isImported) throw new DataError(`${path} was made with ${before}, but ${name} has ${now}`);
  checkSameClasses(path, manifest.classes, { name, classes });
}
