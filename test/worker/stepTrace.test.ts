// What a step trace sees of two towers that share a process, and that it sees nothing when it is not asked to.

import tf from '@tensorflow/tfjs-node-gpu';
import { expect, test } from 'vitest';
import { runOp } from '../../src/tower/tensorflow.ts';
import { StepTrace } from '../../src/worker/stepTrace.ts';

const yielded = (): Promise<void> => new Promise(setImmediate);

test('every op belongs to the tower and the layer that ran it, also after an await; outside of a trace nothing is watched', async () => {
  let clock = 0;
  const trace = new StepTrace(() => clock++);
  const x = tf.ones([2]);
  const pass = async (tower: 0 | 1, layer: string, op: string): Promise<void> => {
    await trace.observerOf(tower).during({ layer, phase: 'forward' }, async () => {
      await yielded();
      runOp(op, [{ name: 'T', type: 1, value: 1 }], [x]).dispose();
      trace.observerOf(tower).crossed('wait', 0);
    });
  };
  await pass(0, 'before', 'Neg');
  trace.begin([0, 1]);
  await Promise.all([pass(0, 'conv1', 'Relu'), pass(1, 'conv2', 'Square')]);
  trace.did(1, 'sync', 0);
  const events = trace.end();
  await pass(0, 'after', 'Neg');
  x.dispose();

  const seen = (tower: 0 | 1): string[] =>
    (events.get(tower) ?? []).map(({ kind, name, layer }) => `${kind} ${name} ${layer ?? ''}`);
  expect(seen(0)).toEqual(['op Relu conv1', 'wait wait conv1', 'pass conv1 forward conv1']);
  expect(seen(1)).toEqual(['op Square conv2', 'wait wait conv2', 'pass conv2 forward conv2', 'step sync ']);
  for (const { ms } of events.get(0) ?? []) expect(ms).toBeGreaterThan(0);
});
