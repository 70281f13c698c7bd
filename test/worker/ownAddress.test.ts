// Where tower 0 listens when it is told 'everywhere': by the address that others know this machine by.

import { expect, test } from 'vitest';
import { reachableAddress } from '../../src/worker/ownAddress.ts';

test.each([
  ['tcp://0.0.0.0:0', 'tcp://127.0.0.1:5570', 'tcp://127.0.0.1:0'],
  ['tcp://0.0.0.0:7000', 'tcp://[::1]:5570', 'tcp://[::1]:7000'],
  ['tcp://0.0.0.0:0', 'tcp://localhost:5570', 'tcp://127.0.0.1:0'],
  // A choice that somebody made stands, and so does what no route can mend.
  ['tcp://127.0.0.1:0', 'tcp://127.0.0.1:5570', 'tcp://127.0.0.1:0'],
  ['tcp://0.0.0.0:0', 'ipc:///run/coordinator', 'tcp://0.0.0.0:0'],
  ['tcp://0.0.0.0:0', 'tcp://no-such-host.invalid:5570', 'tcp://0.0.0.0:0'],
])('%s, coordinator at %s: %s', async (address, coordinator, reachable) => {
  expect(await reachableAddress(address, coordinator)).toBe(reachable);
});
