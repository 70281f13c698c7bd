import { expect, test } from 'vitest';
import { busyWarning } from '../../bench/machine.ts';

test('a machine that others use is told of, an idle one is not', () => {
  expect(busyWarning(1.5, 2)).toContain('1.5 of 2 cores');
  expect(busyWarning(0.05, 2)).toBeUndefined();
});
