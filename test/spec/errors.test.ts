// Errors carry the exit code of their process.

import { describe, expect, test } from 'vitest';
import {
  CrosstowerError,
  DataError,
  NumericError,
  OutOfMemoryError,
  PeerLostError,
  RefusedError,
  StorageError,
  UsageError,
  assertNever,
  exitCodeOf,
} from '../../src/spec/errors.ts';

describe('an error', () => {
  test.each([
    { name: 'UsageError', Class: UsageError, code: 2 },
    { name: 'PeerLostError', Class: PeerLostError, code: 3 },
    { name: 'RefusedError', Class: RefusedError, code: 4 },
    { name: 'DataError', Class: DataError, code: 5 },
    { name: 'StorageError', Class: StorageError, code: 6 },
    { name: 'NumericError', Class: NumericError, code: 7 },
    { name: 'OutOfMemoryError', Class: OutOfMemoryError, code: 8 },
  ])('$name ends its process with $code, and keeps its name, message and cause', ({ name, Class, code }) => {
    const cause = new Error('below');
    const error = new Class('what happened', { cause });
    expect(error).toBeInstanceOf(CrosstowerError);
    expect(exitCodeOf(error)).toBe(code);
    expect({ name: error.name, message: error.message, cause: error.cause }).toEqual({ name, message: 'what happened', cause });
  });

  test.each([new TypeError('x is not a function'), 'a string', undefined, { exitCode: 2 }])(
    'that is none of ours is a bug: %s ends the process with 1',
    (thrown) => {
      expect(exitCodeOf(thrown)).toBe(1);
    },
  );

  test('of a branch that cannot be reached shows what reached it', () => {
    expect(() => assertNever({ type: 'surprise' } as never)).toThrow('{"type":"surprise"}');
  });
});
