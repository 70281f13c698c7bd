import fc from 'fast-check';
import { expect, test } from 'vitest';
import { PathListBuilder, pathAt } from '../../src/data/pathList.ts';

test('a list gives back every path, however many and long they are', () => {
  fc.assert(
    fc.property(
      fc.array(fc.oneof(fc.string({ unit: 'grapheme' }), fc.constant('x'.repeat(700_000))), { maxLength: 20 }),
      (paths) => {
        const builder = new PathListBuilder();
        const numbers = paths.map((path) => builder.add(path));
        const list = builder.build();
        // What UTF-8 cannot hold, half a surrogate pair, is no path.
        expect(numbers.map((number) => pathAt(list, number))).toEqual(paths.map((path) => Buffer.from(path).toString()));
        expect(() => pathAt(list, paths.length)).toThrow(RangeError);
      },
    ),
    { numRuns: 50 },
  );
});
