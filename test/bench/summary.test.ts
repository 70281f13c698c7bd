import { describe, expect, test } from 'vitest';
import { breakDown, summarise } from '../../bench/summary.ts';
import { parts, peerAbout, round, subject } from './results.ts';

describe('summary of rounds', () => {
  test('images per second are the batch over the median step of all rounds', () => {
    const result = summarise([round(1000), round(2000), round(1000)], subject);
    expect(result.stepMs.median).toBe(1000);
    expect(result.imagesPerSecond).toBe(128);
    expect(result.rounds.map(({ imagesPerSecond }) => imagesPerSecond)).toEqual([128, 64, 128]);
  });

  test('the share of the ceiling is taken within each round', () => {
    const result = summarise([round(1000), round(4000)], subject);
    expect(result.shareOfCeiling).toBeCloseTo(0.5);
    expect(result.ceiling.imagesPerSecond).toBeCloseTo((256 + 64) / 2);
  });

  test('a ratio to a peer is the median of the ratios of the rounds', () => {
    const rounds = [round(1000, { peers: { tensorflow: [1500, 1500] } }), round(2000, { peers: { tensorflow: [3000, 3000] } })];
    const result = summarise(rounds, { ...subject, peers: { tensorflow: peerAbout } });
    expect(result.ratioToTensorflow).toBeCloseTo(1.5);
    expect(result.peers.tensorflow).toMatchObject({ version: '2.21.0', stepMs: { median: 2250 } });
    expect(result).not.toHaveProperty('ratioToPytorch');
  });

  test('each part of the step is that of the tower where it takes longest', () => {
    const { breakdown } = summarise([round(1000)], subject);
    expect(breakdown.compute).toEqual({ ms: 900, share: 0.9, tower: 0 });
    expect(breakdown.sync).toEqual({ ms: 200, share: 0.2, tower: 1 });
    expect(breakdown.exchangeWaitAndSync).toEqual({ ms: 200, share: 0.2, tower: 1 });
  });

  test('parts are means over the steps, so that those of one tower add up to its step', () => {
    const steps = [[parts({ compute: 100 })], [parts({ compute: 100, exchangeWait: 40 })]];
    expect(breakDown(steps, 120)).toMatchObject({ compute: { ms: 100 }, exchangeWait: { ms: 20 } });
  });

  test('memory is the most of all rounds; what is unknown is left out', () => {
    const result = summarise([round(1000, { peakMemoryBytes: 2e9 }), round(1000, { peakMemoryBytes: 3e9 })], subject);
    expect(result.peakMemoryBytes).toBe(3e9);
    expect(result).not.toHaveProperty('pageFaultsPerStep');
  });
});
