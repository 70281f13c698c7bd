// An ablation as its user sees it: stopped, gone on with, finished, and asked again; and one of which a variant fails.

import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { describe, expect } from 'vitest';
import { test } from './stage.ts';
import type { Command, Stage } from './stage.ts';

const steps = 40;
const soonMs = 60_000;

function ablate(stage: Stage, variants: object, seeds: string): Command {
  // JSON is YAML.
  const base = { network: 'tiny', data: 'synthetic:64,10,640', init: 'he', batch: 16, lrScheduler: 'constant', steps };
  writeFileSync(stage.path('variants.yaml'), JSON.stringify({ base, variants }));
  const args = ['ablate', '--variants', 'variants.yaml', '--seeds', seeds, '--threads', '1', '--out', 'out'];
  return stage.start(process.execPath, [stage.scripts.coordinator, ...args]);
}

function tableRows(stage: Stage): string[][] {
  const lines = readFileSync(stage.path('out/table.md'), 'utf8').trimEnd().split('\n').slice(2);
  return lines.map((line) => line.split('|').map((cell) => cell.trim()));
}

describe('an ablation', () => {
  test('that was stopped goes on where it was, ends with every run done once, and then starts nothing', async ({ stage }) => {
    const variants = { plain: {}, 'no & dropout': { dropout: 0 } };
    const first = ablate(stage, variants, '1,2');
    await stage.reached(5, 'out/runs/plain/seed-1');
    first.signal('SIGINT');
    expect(await first.exit(soonMs), first.output).toBe(75);
    expect(first.output).toMatch(/results of 0 of 4 runs in out/);
    expect(existsSync(stage.path('out/table.md'))).toBe(true);
    const log = (): string => readFileSync(stage.path('out/runs/plain/seed-1.log'), 'utf8');
    expect(log().match(/SIGINT: finishing the step/g)).toHaveLength(1);
    expect(readdirSync(stage.path('out/runs'))).toEqual(['plain']);

    const second = ablate(stage, variants, '1,2');
    expect(await second.exit(soonMs), second.output).toBe(0);
    expect(log()).toMatch(/going on after step \d+/);
    for (const run of ['plain/seed-1', 'plain/seed-2', 'no & dropout/seed-1', 'no & dropout/seed-2']) {
      const done = stage.steps(`out/runs/${run}`).map((record) => record['step']);
      expect(done, run).toEqual(Array.from({ length: steps }, (_, i) => i + 1));
    }
    // Each seed is a run of its own.
    expect(stage.modelHash('out/runs/plain/seed-1')).not.toBe(stage.modelHash('out/runs/plain/seed-2'));
    expect(tableRows(stage).map(([, name, seeds]) => [name, seeds])).toEqual([
      ['plain', '2'],
      ['no & dropout', '2'],
    ]);
    expect(readFileSync(stage.path('out/curves.svg'), 'utf8')).toContain('no &amp; dropout');

    const table = readFileSync(stage.path('out/table.md'), 'utf8');
    const third = ablate(stage, variants, '1,2');
    expect(await third.exit(soonMs), third.output).toBe(0);
    expect(third.output.match(/finished before/g)).toHaveLength(4);
    expect(third.output).not.toMatch(/running in/);
    expect(third.output).toContain(table);

    const other = ablate(stage, { plain: { lr: 0.5 } }, '1');
    expect(await other.exit(soonMs), other.output).toBe(2);
    expect(other.lastLine).toBe(
      'coordinator: out/runs/plain/seed-1 was run with another config (lr 0.01 then, 0.5 now): choose another --out',
    );
  });

  test('names the variant that fails, with its exit code and last line, and runs the others', async ({ stage }) => {
    const command = ablate(stage, { diverges: { lr: 1e30 }, learns: {} }, '1');
    expect(await command.exit(soonMs), command.output).toBe(7);
    expect(command.output).toMatch(
      /^diverges, seed 1 \(1 of 2\): ended with exit code 7: coordinator: .*\(out\/runs\/diverges\/seed-1\.log\)$/m,
    );
    expect(tableRows(stage).map(([, name]) => name)).toEqual(['learns']);
    expect(command.lastLine).toMatch(/^results of 1 of 2 runs in out/);
  });

  test('says what is wrong with a variant before anything runs', async ({ stage }) => {
    const command = ablate(stage, { good: {}, bad: { dropout: 3 } }, '1');
    expect(await command.exit(soonMs)).toBe(2);
    expect(command.lastLine).toMatch(/^coordinator: variants\.yaml, variant 'bad': dropout: /);
    expect(existsSync(stage.path('out'))).toBe(false);
  });
});
