import { describe, expect, test } from 'vitest';
import { failpoint, readArmed } from '../../src/spec/failpoint.ts';

describe('failpoints', () => {
  test('are armed only where two variables say so', () => {
    const points = { CROSSTOWER_FAILPOINTS: 'forward.conv2=kill@12,checkpoint.fsync=eio' };
    expect(readArmed(points)).toBeUndefined();
    expect(readArmed({ ...points, CROSSTOWER_TEST: '0' })).toBeUndefined();
    expect(readArmed({ CROSSTOWER_TEST: '1' })).toBeUndefined();
    expect([...(readArmed({ ...points, CROSSTOWER_TEST: '1' }) ?? [])].map(([name, { at }]) => [name, at])).toEqual([
      ['forward.conv2', 12],
      ['checkpoint.fsync', undefined],
    ]);
  });

  test('do nothing unless they are armed', () => {
    expect(() => {
      failpoint('forward.conv2', 12);
    }).not.toThrow();
  });

  test.each(['forward', 'forward=', 'forward=laugh', 'forward=kill@x'])('refuse %s', (text) => {
    expect(() => readArmed({ CROSSTOWER_TEST: '1', CROSSTOWER_FAILPOINTS: text })).toThrow(/is not NAME=ACTION/);
  });
});
