// One of the processes behind the ceiling, started by ceiling.ts in a worker's environment: prints that it is ready, then answers each line
// `run MILLISECONDS` with {"flops": FLOP/s}; ends with its standard input.

import { createInterface } from 'node:readline';
import { deviceInfo } from '../src/tower/tensorflow.ts';
import { MatrixProduct } from './matrixProduct.ts';

const product = new MatrixProduct();
console.log(JSON.stringify({ ready: true, tensorflow: deviceInfo().tensorflow }));
for await (const line of createInterface({ input: process.stdin })) {
  const [command, milliseconds] = line.split(' ');
  if (command !== 'run') throw new Error(`unknown command '${line}'`);
  console.log(JSON.stringify({ flops: product.measure(Number(milliseconds)) }));
}
product.close();
