import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { checkComparable, compareResults, readBase } from '../../bench/compareResults.ts';
import type { Comparison } from '../../bench/compareResults.ts';
import { summarise } from '../../bench/summary.ts';
import { comparisonReport } from '../../bench/throughputReport.ts';
import { peerAbout, round, subject } from './results.ts';

function compare(before: readonly number[], after: readonly number[]): Comparison {
  const [base, now] = [before, after].map((steps) =>
    summarise(
      steps.map((ms) => round(ms)),
      subject,
    ),
  ) as [Summary, Summary];
  const found = compareResults(base, now).find(({ name }) => name === 'images/s');
  if (found === undefined) throw new Error('images/s were not compared');
  return found;
}
type Summary = ReturnType<typeof summarise>;

describe('--compare', () => {
  test('a change beyond the range of the rounds is told', () => {
    expect(compare([1000, 1010, 990], [900, 905, 895])).toMatchObject({ verdict: 'better' });
    expect(compare([1000, 1010, 990], [1100, 1105, 1095])).toMatchObject({ verdict: 'worse' });
  });

  test('a change within the range of the rounds of either run is noise', () => {
    expect(compare([1000, 1200, 900], [950, 955, 945])).toMatchObject({ verdict: 'same' });
    expect(compare([1000, 1001, 1002], [950, 1200, 900])).toMatchObject({ verdict: 'same' });
  });

  test('one round has no range: a twentieth stands in for it', () => {
    expect(compare([1000], [970])).toMatchObject({ verdict: 'same' });
    expect(compare([1000], [900])).toMatchObject({ verdict: 'better' });
  });

  test('two equal runs are the same, however quiet', () => {
    expect(compare([1000, 1000], [1000, 1000])).toMatchObject({ verdict: 'same', change: 0 });
    expect(compare([1000, 1000], [1005, 1005])).toMatchObject({ verdict: 'same' });
  });

  test('less time is better', () => {
    const comparisons = compareResults(
      summarise([round(1000), round(1000)], subject),
      summarise([round(500), round(500)], subject),
    );
    expect(comparisons.find(({ name }) => name === 'compute, ms')).toMatchObject({ base: 900, now: 450, verdict: 'better' });
  });

  test('a figure that only one run has is left out', () => {
    const withPeer = summarise([round(1000, { peers: { tensorflow: [1500] } })], {
      ...subject,
      peers: { tensorflow: peerAbout },
    });
    const names = compareResults(summarise([round(1000)], subject), withPeer).map(({ name }) => name);
    expect(names).toContain('share of the ceiling');
    expect(names).not.toContain('ratio to TensorFlow');
    expect(names).not.toContain('peak memory, MB');
  });

  test('the first line names what moved', () => {
    const [base, same, slower] = [1000, 1001, 1500].map((ms) => summarise([round(ms), round(ms)], subject)) as [
      Summary,
      Summary,
      Summary,
    ];
    expect(comparisonReport(compareResults(base, same), 'base.json')).toMatch(/^nothing moved beyond the noise since base\.json/);
    expect(comparisonReport(compareResults(base, slower), 'base.json')).toMatch(/^since base\.json: images\/s worse \(-33\.3%\)/);
  });

  test('what --json printed can be read back; anything else is refused in one sentence', () => {
    const folder = mkdtempSync(join(tmpdir(), 'crosstower-test-'));
    onTestFinished(() => {
      rmSync(folder, { recursive: true });
    });
    const file = join(folder, 'base.json');
    const result = summarise([round(1000, { pageFaultsPerStep: 3 })], subject);
    writeFileSync(file, JSON.stringify(result));
    expect(compareResults(readBase(file), result).every(({ verdict }) => verdict === 'same')).toBe(true);
    writeFileSync(file, '{"rounds":[]}');
    expect(() => readBase(file)).toThrow('not a result of');
    expect(() => readBase(join(folder, 'nowhere.json'))).toThrow('not a result of');
  });

  test('runs of different sizes are not compared', () => {
    const base = summarise([round(1000)], subject);
    expect(() => {
      checkComparable(base, { network: 'alexnet', batch: 64, threads: 1 });
    }).toThrow('--batch 128, not 64');
  });
});
