// The measurement behind bench/kernels.ts: runs in a process that has a worker's environment, because it loads TensorFlow.

import { networks, planNetwork } from '../src/spec/network.ts';
import { deviceInfo } from '../src/tower/tensorflow.ts';
import { readSetup } from '../src/worker/environment.ts';
import { kernelCases } from './kernelCases.ts';
import type { KernelOptions } from './kernelOptions.ts';
import { describeMachine } from './machine.ts';
import { MatrixProduct } from './matrixProduct.ts';
import { measureMemoryPass } from './memoryPass.ts';
import { distribution } from './statistics.ts';
import type { Distribution } from './statistics.ts';
import { percent, textTable } from '../src/coordinator/textTable.ts';
import { benchClasses } from './throughputOptions.ts';
import { timeCalls } from './timeCalls.ts';

interface KernelResult {
  readonly layer: string;
  readonly kernel: string;
  readonly ms: Distribution;
  readonly gflops?: number;
  readonly gigabytesPerSecond?: number;
  readonly shareOfCeiling: number;
  readonly timesInStep: number;
}

const productMs = 1500;

/** Measures, and prints a table or one JSON object. */
export function measureKernels({ network, batches, threads, json }: KernelOptions): void {
  const machine = describeMachine(deviceInfo().tensorflow, readSetup());
  const product = new MatrixProduct();
  const plan = planNetwork(networks[network], benchClasses[network]);
  const results = batches.map((batch) => {
    const measureCeiling = () => ({ flops: product.measure(productMs), bytesPerSecond: measureMemoryPass() });
    const before = measureCeiling();
    // Array.from maps each case before it takes the next.
    const timed = Array.from(kernelCases(plan, batch), ({ run, ...rest }) => ({ ...rest, ms: distribution(timeCalls(run)) }));
    const after = measureCeiling();
    // A neighbour can only take from it.
    const ceiling = {
      flops: Math.max(before.flops, after.flops),
      bytesPerSecond: Math.max(before.bytesPerSecond, after.bytesPerSecond),
    };
    const kernels = timed.map(({ work, ...kernel }): KernelResult => {
      const seconds = kernel.ms.median / 1000;
      return 'flops' in work
        ? { ...kernel, gflops: work.flops / seconds / 1e9, shareOfCeiling: work.flops / seconds / ceiling.flops }
        : {
            ...kernel,
            gigabytesPerSecond: work.bytes / seconds / 1e9,
            shareOfCeiling: work.bytes / seconds / ceiling.bytesPerSecond,
          };
    });
    const stepMs = kernels.reduce((sum, { ms, timesInStep }) => sum + timesInStep * ms.median, 0);
    const result = { batch, ceiling, stepMs, kernels };
    if (!json) console.log(`${report(network, result)}\n`);
    return result;
  });
  product.close();
  if (json) console.log(JSON.stringify({ machine, network, threads, results }));
}

function report(
  network: string,
  result: {
    batch: number;
    ceiling: { flops: number; bytesPerSecond: number };
    stepMs: number;
    kernels: readonly KernelResult[];
  },
): string {
  const { batch, ceiling, stepMs, kernels } = result;
  const rows = kernels.map(({ layer, kernel, ms, gflops, gigabytesPerSecond, shareOfCeiling, timesInStep }) => [
    layer,
    kernel,
    ms.median.toFixed(2),
    gflops?.toFixed(0) ?? '',
    gigabytesPerSecond?.toFixed(1) ?? '',
    percent(shareOfCeiling),
    timesInStep === 0 ? '*' : percent((timesInStep * ms.median) / stepMs),
  ]);
  return [
    `${network}, one tower, ${batch} pictures; ceiling ${(ceiling.flops / 1e9).toFixed(0)} GFLOP/s, ${(ceiling.bytesPerSecond / 1e9).toFixed(1)} GB/s`,
    textTable([['layer', 'kernel', 'ms', 'GFLOP/s', 'GB/s', 'of ceiling', 'of step'], ...rows]),
    `all kernels of a step together, crossing halves twice: ${stepMs.toFixed(1)} ms`,
  ].join('\n');
}
