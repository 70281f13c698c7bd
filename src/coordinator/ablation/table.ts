// The summaries as a table: Markdown to read, with errors in percent and differences in points, and CSV to go on with, in shares.

import type { Spread, Summary } from './results.ts';

/** Mean and standard deviation over seeds, a line a variant; `target` is the training error that the steps are counted to, 0..1. */
export function markdownTable(summaries: readonly Summary[], target: number): string {
  const head = [
    'variant',
    'seeds',
    'test error, %',
    'difference, points',
    'training error, %',
    'test loss',
    `steps to ${String(Number((100 * target).toPrecision(3)))}%`,
    'epochs to it',
    'images/s',
  ];
  const rows = summaries.map((summary) => [
    summary.variant.replaceAll('|', '\\|'),
    String(summary.seeds),
    text(summary.testError, { factor: 100, digits: 2 }),
    text(summary.difference, { factor: 100, digits: 2, signed: true }),
    text(summary.trainError, { factor: 100, digits: 2 }),
    text(summary.testLoss, { digits: 3 }),
    reached(summary, summary.stepsToTarget, 0),
    reached(summary, summary.epochsToTarget, 2),
    text(summary.imagesPerSecond, { digits: 0 }),
  ]);
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map((_, i) => (i === 0 ? '---' : '---:'))), ...rows.map(line), ''].join('\n');
}

/** The same numbers in full, one column each for mean and deviation; empty where there is none. */
export function csvTable(summaries: readonly Summary[]): string {
  const columns = {
    test_error: 'testError',
    difference: 'difference',
    train_error: 'trainError',
    test_loss: 'testLoss',
    steps_to_target: 'stepsToTarget',
    epochs_to_target: 'epochsToTarget',
    images_per_second: 'imagesPerSecond',
  } as const;
  const head = Object.keys(columns).flatMap((name) => [`${name}_mean`, `${name}_sd`]);
  const rows = summaries.map((summary) => [
    quoted(summary.variant),
    String(summary.seeds),
    String(summary.stepsToTarget.count),
    ...Object.values(columns).flatMap((column) => [plain(summary[column].mean), plain(summary[column].sd)]),
  ]);
  return [['variant', 'seeds', 'reached_target', ...head], ...rows].map((cells) => `${cells.join(',')}\n`).join('');
}

function text(
  { mean, sd }: Spread,
  { factor = 1, digits, signed = false }: { factor?: number; digits: number; signed?: boolean },
): string {
  if (Number.isNaN(mean)) return '-';
  const sign = signed && mean > 0 ? '+' : '';
  return `${sign}${(factor * mean).toFixed(digits)}${Number.isNaN(sd) ? '' : ` ± ${(factor * sd).toFixed(digits)}`}`;
}

/** Seeds that did not come there are counted, not averaged. */
function reached({ seeds }: Summary, spread: Spread, digits: number): string {
  if (spread.count === 0) return 'not reached';
  return text(spread, { digits }) + (spread.count === seeds ? '' : ` (${String(spread.count)} of ${String(seeds)})`);
}

function plain(value: number): string {
  return Number.isNaN(value) ? '' : String(value);
}

function quoted(cell: string): string {
  return /[",\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
}
