import { expect, test } from 'vitest';
import { SentBatches } from '../../src/coordinator/sentBatches.ts';

test('a batch has been read once every worker that it was sent to has read it, in the order in which they were sent', () => {
  const sent = new SentBatches();
  const read: string[] = [];
  const send = (name: string, ...workerIds: string[]): void => {
    sent.add(workerIds, () => read.push(name));
  };
  send('first', 'a', 'b');
  send('second', 'a', 'b');
  // The last batch of an evaluation may have too few pictures for all replicas.
  send('third', 'a');
  sent.read('a');
  sent.read('a');
  sent.read('a');
  expect(read).toEqual(['third']);
  sent.read('b');
  expect(read).toEqual(['third', 'first']);
  sent.read('b');
  expect(read).toEqual(['third', 'first', 'second']);
});

test('a batch that a lost worker has not read counts as read by nobody, and a credit for no batch is no harm', () => {
  const sent = new SentBatches();
  let calls = 0;
  sent.add(['a', 'lost'], () => calls++);
  sent.read('a');
  sent.read('a');
  sent.read('stranger');
  expect(calls).toBe(0);
});
