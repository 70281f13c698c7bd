// A clock that is set, by NTP or by hand, must not end a wait or bend a rate: durations are monotonic, and the time of day is for people.

import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

test('the time of day is read only to be shown: in the log, and in the name of a run', () => {
  const readers = readdirSync('src', { recursive: true, encoding: 'utf8' }).filter(
    (name) =>
      name.endsWith('.ts') && /Date\.now|new Date\((?!0\))|hrtime\.real|timeOrigin/.test(readFileSync(join('src', name), 'utf8')),
  );
  expect(readers.sort()).toEqual(['coordinator/commands/start.ts', 'coordinator/runFolder.ts']);
});
