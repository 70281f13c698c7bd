// A worker in plain JavaScript that says hello and then waits to be killed: node helloWorker.mjs ADDRESS PROTOCOL_VERSION.

import { randomBytes } from 'node:crypto';
import { Packr } from 'msgpackr';
import { Dealer } from 'zeromq';

const socket = new Dealer({ linger: 0, routingId: `worker-${randomBytes(16).toString('hex')}` });
socket.connect(process.argv[2]);
const hello = {
  version: Number(process.argv[3]),
  run: '',
  generation: 0,
  step: 0,
  type: 'hello',
  packageVersion: '0',
  host: 'here',
  pid: process.pid,
  device: 'none',
  tower: 'auto',
  replica: 'auto',
};
await socket.send(new Packr({ useRecords: false }).pack(hello));
for await (const frames of socket) process.stdout.write(`${frames.length}\n`);
