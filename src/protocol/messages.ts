// Everything that crosses a process boundary, as three unions on `type`: worker to coordinator, coordinator to worker, tower to tower.
// A message is a header (msgpack, at most 64 KiB, checked against these schemas) and a payload of raw frames; tensors are payload only.
// Invariant: every header carries version, run, generation and step, so that whatever a dead run left in a queue is recognised as stale.

import { z } from 'zod';
import { runConfigSchema } from '../spec/config.ts';
import { exitCodes } from '../spec/errors.ts';

/** Raised whenever a header changes: both sides refuse another number and name both. */
export const protocolVersion = 4;

const count = z.int().min(0);
const positive = z.int().min(1);
const milliseconds = z.number().min(0);
/** A loss that blew up travels as it is: the coordinator decides what to do about it. */
const anyNumber = z.custom<number>((value) => typeof value === 'number', 'expected a number, NaN or an infinity');
const name = z.string().min(1).max(64);
const text = z.string().max(4096);
const address = z.string().min(1).max(512);
/** 32 bytes in Z85. */
const key = z.string().length(40);
const exitCode = z.literal(Object.values(exitCodes));

const tower = z.literal([0, 1]);
const towerRole = z.literal([0, 1, 'both']);
const token = z.string().min(16).max(128);

/** The number of bytes in all payload frames together, and their CRC-32. Added by the encoder, checked when the message is received. */
const payloadCheck = z.strictObject({ bytes: count, crc: z.int().min(0).max(0xffff_ffff) });

/** What every header carries. `step` is the step that the message belongs to; 0 before the first. */
const envelope = {
  version: z.literal(protocolVersion),
  /** The run's id; empty until the coordinator has assigned one. */
  run: z.string().max(128),
  /** Raised by the coordinator whenever everybody returns to the last committed state. */
  generation: count,
  step: count,
  payload: payloadCheck.optional(),
} as const;

/** Which values of a parameter block: the weights, or the velocity of the update rule. */
const parameterValues = z.enum(['weights', 'momentum']);

/** One parameter block; the payload is its fp32 values in row-major order. */
const weights = z.strictObject({
  ...envelope,
  type: z.literal('weights'),
  tower,
  of: parameterValues,
  /** The block's name, such as `conv3.weight.own`. */
  name,
  index: count,
  total: positive,
});

/** Milliseconds that a tower spent in each part of a step. */
const stepMs = z.strictObject({
  dataWait: milliseconds,
  compute: milliseconds,
  exchangeWait: milliseconds,
  sync: milliseconds,
  update: milliseconds,
});

/** Who is at the other end of a link: the replica's other tower (tower 0 listens), or the same tower of a neighbouring replica (each listens for the next). */
const neighbour = z.enum(['tower', 'replica']);

/** Worker to coordinator. */
export const toCoordinatorSchema = z.discriminatedUnion('type', [
  /** The first message: who is there, and which tower it wants to be. */
  z.strictObject({
    ...envelope,
    type: z.literal('hello'),
    packageVersion: name,
    host: z.string().max(255),
    pid: count,
    device: z.string().max(512),
    tower: z.literal([0, 1, 'both', 'auto']),
    replica: z.union([count, z.literal('auto')]),
    /** Under CURVE: whose hello it is (`proofOf`). */
    proof: z.strictObject({ publicKey: key, mac: z.string().length(64) }).optional(),
  }),
  /** A tower listens for one of its neighbours: the coordinator passes the address on. */
  z.strictObject({ ...envelope, type: z.literal('link'), tower, neighbour, address }),
  /** The weights are loaded and the peer link is up. */
  z.strictObject({ ...envelope, type: z.literal('ready'), tower: towerRole }),
  /** The worker will take this many batches more: at first, in step 0, and for each that it has read, in the step of that one. */
  z.strictObject({ ...envelope, type: z.literal('credit'), count: positive.max(64) }),
  /** The gradients of a step lie ready; the worker waits for a decision. */
  z.strictObject({
    ...envelope,
    type: z.literal('gradients'),
    tower,
    /** What the worker's pictures add to the mean over the batch: the losses of all replicas together are that mean. */
    loss: anyNumber,
    /** Squared L2 norm of the gradients of this tower, summed over the replicas; what both towers have counted once. */
    squaredNorm: anyNumber,
    finite: z.boolean(),
    /** The worker's pictures whose best class is the right one. */
    top1: count,
    /** From the batch's arrival to this message. */
    ms: milliseconds,
  }),
  /** The decision on a step has been carried out; bytes sent to the other tower, and to the next replica. */
  z.strictObject({
    ...envelope,
    type: z.literal('stepDone'),
    tower,
    ms: stepMs,
    bytesSent: count,
    bytesSummed: count,
    /** In the worker's process: the same after every step, or something leaks. */
    liveTensors: count,
  }),
  /**
   * Follows `stepDone` where the batch asked for it; the payload is `traceEventsSchema` as JSON. The two times, by the worker's clock, are
   * those of the decision's arrival and of `stepDone`: with the coordinator's own they align the clocks.
   */
  z.strictObject({
    ...envelope,
    type: z.literal('trace'),
    tower,
    startMs: milliseconds,
    decidedMs: milliseconds,
    doneMs: milliseconds,
  }),
  /** Sums over one evaluation batch. */
  z.strictObject({
    ...envelope,
    type: z.literal('evalResult'),
    tower,
    index: count,
    loss: anyNumber,
    top1: count,
    top5: count,
    count: positive,
  }),
  /** Answers `predict` batches, from tower 0: the payload is the probability of every class [count,classes], fp32. */
  z.strictObject({
    ...envelope,
    type: z.literal('predictions'),
    tower: z.literal(0),
    index: count,
    count: positive,
    classes: positive,
  }),
  /** Answers `sendBlock`. */
  weights,
  /** The step cannot be finished, for the other tower or a message is missing: the worker drops it, stays, and waits to be assigned anew. */
  z.strictObject({ ...envelope, type: z.literal('stranded'), message: text }),
  /** The worker cannot go on, and will exit with this code. */
  z.strictObject({ ...envelope, type: z.literal('failed'), exitCode, message: text }),
  /** The worker leaves as it was told to. */
  z.strictObject({ ...envelope, type: z.literal('bye') }),
  /** Somebody told the worker to stop (a signal): the run should finish its step, save, and end. */
  z.strictObject({ ...envelope, type: z.literal('stopRequested'), signal: name }),
  z.strictObject({ ...envelope, type: z.literal('pong') }),
]);

/** Keys that the coordinator made for one end of a link, where the run is encrypted: they never travel in the clear. */
const curve = z.strictObject({ publicKey: key, secretKey: key, peerKey: key }).optional();

/** One of a tower's ends of links between workers. Both ends of a link know its token, nobody else does. */
const linkEnd = z.discriminatedUnion('role', [
  /** Bind here (`tcp://HOST:0`, `ipc://PATH`), and report the address with `link`. */
  z.strictObject({ role: z.literal('listen'), tower, neighbour, token, curve, address }),
  /** The address follows in `peer`. */
  z.strictObject({ role: z.literal('connect'), tower, neighbour, token, curve }),
]);

/** Coordinator to worker. */
export const toWorkerSchema = z.discriminatedUnion('type', [
  /** Answers `hello`, and starts every generation: drop what is under way, return to the state of `step` and join the link anew. */
  z.strictObject({
    ...envelope,
    type: z.literal('assign'),
    tower: towerRole,
    /** Of config.replicas. */
    replica: count,
    config: runConfigSchema,
    classes: z.int().min(2),
    picture: z.strictObject({ height: positive, width: positive, channels: z.literal([1, 3]) }),
    /** Per channel of the pictures, in 0..255. */
    mean: z.array(z.number()).min(1).max(3),
    deviation: z.array(z.number().positive()).min(1).max(3),
    /** So many `weights` messages follow for the towers of this worker; what they do not name is drawn (weights) or zero (velocity). */
    sentBlocks: count,
    /** None between the towers of a worker that holds both. */
    links: z.array(linkEnd).max(6),
  }),
  /** The worker is turned away and exits with this code. */
  z.strictObject({ ...envelope, type: z.literal('refuse'), exitCode, message: text }),
  /** The worker was given up: it did not answer, or a message of its was damaged. It drops its step, connects anew and says hello again. */
  z.strictObject({ ...envelope, type: z.literal('release'), reason: text }),
  /** Where a neighbour listens for this tower: tower 0 of the replica, or the same tower of the replica before. */
  z.strictObject({ ...envelope, type: z.literal('peer'), tower, neighbour, address }),
  weights,
  /** Everybody is ready: grant credit and take batches. */
  z.strictObject({ ...envelope, type: z.literal('begin') }),
  /** Pictures [count,height,width,channels]; the payload is `batchPayload`'s (payloads.ts). */
  z.strictObject({
    ...envelope,
    type: z.literal('batch'),
    /** `evaluate` is answered by scores, `predict` by `predictions`; both leave the weights alone. */
    kind: z.enum(['train', 'evaluate', 'predict']),
    epoch: count,
    index: count,
    /** Pictures in this message: a shard of a batch that the replicas share, from row `first` of `of` on. */
    count: positive,
    first: count,
    of: positive,
    height: positive.max(4096),
    width: positive.max(4096),
    channels: z.literal([1, 3]),
    /** The payload has an RGB offset for each picture (PCA colour, paper, section 4.1). */
    hasColour: z.boolean(),
    /** Answer with `trace` as well. */
    traced: z.boolean().optional(),
  }),
  /** What every tower does with the gradients of this step. */
  z.strictObject({
    ...envelope,
    type: z.literal('decision'),
    verdict: z.enum(['apply', 'skip']),
    learningRate: z.number().min(0),
    /** Factor of every gradient: below 1 where the norm is clipped. */
    scale: z.number().min(0),
    /** Copy weights and velocities after this step, and go on; the copies are asked for by `sendBlock` (docs/adr/0013-checkpoints.md). */
    snapshot: z.boolean(),
  }),
  /** Send this block of the last snapshot: weights first, then velocities. A block at a time, so that none waits in a queue. */
  z.strictObject({ ...envelope, type: z.literal('sendBlock'), index: count }),
  /** Say bye and exit with this code. */
  z.strictObject({ ...envelope, type: z.literal('stop'), reason: text, exitCode }),
  /** Answered with pong; finds out whether the worker can be reached at all. */
  z.strictObject({ ...envelope, type: z.literal('ping') }),
]);

/** Tower to tower, behind the Exchange port (zeromqExchange.ts). */
export const betweenTowersSchema = z.discriminatedUnion('type', [
  /** Sent by tower 1 when it has connected, and answered by tower 0. */
  z.strictObject({ ...envelope, type: z.literal('open'), tower }),
  /** One tower's half of a swap; the payload is its fp32 values. */
  z.strictObject({
    ...envelope,
    type: z.literal('tensor'),
    site: name,
    phase: z.enum(['forward', 'backward', 'evaluate', 'sum']),
    microBatch: count,
    shape: z.array(count).max(8),
  }),
  /** Needs no answer; finds out whether the other tower can be reached at all. */
  z.strictObject({ ...envelope, type: z.literal('probe') }),
]);

export type LinkEnd = z.infer<typeof linkEnd>;
export type Neighbour = z.infer<typeof neighbour>;
/** The header of a received message, worker to coordinator. */
export type ToCoordinator = z.infer<typeof toCoordinatorSchema>;
/** The header of a received message, coordinator to worker. */
export type ToWorker = z.infer<typeof toWorkerSchema>;
/** The header of a received message between the towers. */
export type BetweenTowers = z.infer<typeof betweenTowersSchema>;

/** A header as it is handed to `send`: the socket adds version, run and generation, the encoder the payload's check. */
export type Outgoing<Header> = Header extends unknown ? Omit<Header, 'version' | 'run' | 'generation' | 'payload'> : never;

/** A message as it was received: the payload's size and CRC have been checked. */
export interface Message<Header> {
  readonly header: Header;
  /** Raw frames of up to 1 MiB. A frame's memory may be unaligned: see `joinFrames`. */
  readonly payload: readonly Uint8Array[];
}
