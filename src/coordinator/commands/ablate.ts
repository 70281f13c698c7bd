// `coordinator ablate`: variants of one config run one after another, and a table and curves of what became of them.
// Invariant: what is finished is kept and never run again; the results are written anew after every run, so a stop loses none.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { StorageError, UsageError, exitCodes } from '../../spec/errors.ts';
import type { ExitCode } from '../../spec/errors.ts';
import { finishedResult, runChild } from '../ablation/childRun.ts';
import type { PlannedRun } from '../ablation/childRun.ts';
import { drawCurves } from '../ablation/curves.ts';
import { summarise } from '../ablation/results.ts';
import type { Result } from '../ablation/results.ts';
import { csvTable, markdownTable } from '../ablation/table.ts';
import { parseSeeds, planVariants, readVariantSet, variantSets } from '../ablation/variants.ts';
import type { SetName } from '../ablation/variants.ts';
import { parseFlags } from '../command.ts';
import type { Command, Flag } from '../command.ts';
import { configFlags, typedFields } from '../options.ts';
import { duration, percent } from '../progress.ts';
import { RunLock } from '../runLock.ts';

const group = 'This command:';
const setNames = Object.keys(variantSets) as SetName[];

const ablateFlags = {
  out: {
    type: 'string',
    requiresArg: true,
    demandOption: true,
    group,
    describe: 'Folder for table.md, table.csv, curves.svg and the runs; what is finished in it is not run again',
  },
  set: { type: 'string', choices: setNames, group, describe: 'Built-in variants' },
  variants: {
    type: 'string',
    requiresArg: true,
    group,
    describe: 'YAML file: base: with fields of all variants, variants: with names and the fields that each one changes',
  },
  seeds: { type: 'string', requiresArg: true, group, default: '1,2,3', describe: 'Seeds of every variant' },
  error: {
    type: 'number',
    requiresArg: true,
    group,
    default: 0.25,
    describe: 'Training error, 0..1, to which the steps are counted',
  },
  threads: {
    type: 'number',
    requiresArg: true,
    group,
    describe: 'CPU threads of each of the two workers [default: half of the cores]',
  },
} as const satisfies Record<string, Flag>;

const ablateSchema = z.object({
  out: z.string().min(1),
  set: z.enum(setNames).optional(),
  variants: z.string().optional(),
  seeds: z.string(),
  error: z.number().gt(0).lt(1),
  threads: z.int().min(1).optional(),
});

/** The seed is not one of the flags: --seeds says it. */
const { seed: _seed, ...fieldFlags } = configFlags();

export const ablate: Command = {
  name: 'ablate',
  describe: 'Run variants of a config one after another and compare them',
  flags: { ...ablateFlags, ...fieldFlags },
  examples: [
    ['ablate --set ideas --out ablation/ideas', "what each of the paper's ideas is worth on Fashion-MNIST"],
    ['ablate --variants rates.yaml --seeds 1,2 --epochs 2 --out ablation/rates', 'variants of your own'],
  ],
  epilogue:
    'Exit codes: 0 every run is finished; 75 stopped by a signal, the same command goes on; otherwise that of the first run that failed.',

  async run(argv, { output, now, takeSignals }) {
    const { out, seeds, error: target, threads, ...args } = parseFlags(ablateSchema, argv);
    const say = (line: string): void => {
      output.write(`${line}\n`);
    };
    const { set, source } = chosenSet(args);
    const variants = Object.keys(set.variants);
    const planned = planVariants(set, typedFields(argv), parseSeeds(seeds), source);
    const runs = planned.map((variant): PlannedRun => ({
      ...variant,
      runDir: join(out, 'runs', variant.name, `seed-${String(variant.seed)}`),
    }));

    const lock = lockedFolder(out, say);
    try {
      const finished = new Map<PlannedRun, Result>();
      for (const run of runs) {
        const result = await finishedResult(run, say);
        if (result !== undefined) finished.set(run, result);
      }
      const results = (): Result[] => runs.flatMap((run) => finished.get(run) ?? []);
      const stop = takeSignals(say);
      const isStopped = (): boolean => stop.aborted;
      let failed: ExitCode | undefined;
      for (const [i, run] of runs.entries()) {
        const title = `${run.name}, seed ${String(run.seed)} (${String(i + 1)} of ${String(runs.length)})`;
        if (finished.has(run)) {
          say(`${title}: finished before`);
          continue;
        }
        if (isStopped()) break;
        say(`${title}: running in ${run.runDir}`);
        const startMs = now();
        const failure = await runChild(run, { threads, stop, say });
        const result = failure === undefined ? await finishedResult(run, say) : undefined;
        if (result !== undefined) {
          finished.set(run, result);
          const error = result.course.evaluations.at(-1)?.error ?? NaN;
          say(`${title}: test error ${percent(error)}, ${duration(now() - startMs)}`);
        } else {
          if (!isStopped()) failed ??= failure?.exitCode ?? exitCodes.stoppedEarly;
          say(`${title}: ${failure?.message ?? 'stopped before its last evaluation'}`);
        }
        writeResults(out, { variants, results: results(), target });
      }
      say(`\n${writeResults(out, { variants, results: results(), target })}`);
      say(`results of ${String(finished.size)} of ${String(runs.length)} runs in ${out}: table.md, table.csv, curves.svg`);
      return finished.size === runs.length ? exitCodes.done : (failed ?? exitCodes.stoppedEarly);
    } finally {
      lock.release();
    }
  },
};

function chosenSet({ set, variants }: { set?: SetName | undefined; variants?: string | undefined }) {
  if (set !== undefined && variants === undefined) return { set: variantSets[set], source: `--set ${set}` };
  if (variants !== undefined && set === undefined) return { set: readVariantSet(variants), source: variants };
  throw new UsageError(`ablate takes either --set ${setNames.join(' or ')}, or --variants FILE`);
}

/** Makes the folder; throws StorageError where it cannot be, RefusedError where another ablation runs in it. */
function lockedFolder(out: string, say: (line: string) => void): RunLock {
  try {
    mkdirSync(out, { recursive: true });
  } catch (error) {
    throw new StorageError(`the folder ${out} could not be made: ${String(error)}`, { cause: error });
  }
  return RunLock.take(out, say);
}

/** Writes the three files and gives the table. */
function writeResults(
  out: string,
  { variants, results, target }: { variants: readonly string[]; results: readonly Result[]; target: number },
): string {
  const summaries = summarise(variants, results, target);
  const table = markdownTable(summaries, target);
  const files = { 'table.md': table, 'table.csv': csvTable(summaries), 'curves.svg': drawCurves(variants, results) };
  for (const [name, text] of Object.entries(files)) {
    const path = join(out, name);
    try {
      writeFileSync(path, text);
    } catch (error) {
      throw new StorageError(`${path} could not be written: ${String(error)}`, { cause: error });
    }
  }
  return table;
}
