// The convolutions of one tower (paper, section 3.5). Pictures go through them in parts of `microBatch`, so that feature maps stay in cache, and a
// part that has sent to the peer is left there until the next one has come as far: what it sent travels meanwhile (ADR 10).
// Invariant: parts begin in their order and end in their order, so that what is summed over them is summed in one order.

import { failpoint } from '../spec/failpoint.ts';
import type { ConvForward, ConvSaved, ConvStage, TakeGradient } from './convStage.ts';
import type { Link, Underway } from './crossing.ts';
import type { PassObserver, Place } from './observer.ts';
import { dispose, picturesOf, reshape, slicePictures } from './tensorflow.ts';
import type { PictureRange, Tensor } from './tensorflow.ts';
import tf from '@tensorflow/tfjs-node-gpu';

/** What a forward pass leaves for the backward pass, by part and stage. */
export type ConvTape = readonly (readonly ConvSaved[])[];

export interface ConvPass {
  readonly step: number;
  /** The link of a part to the peer: parts keep their swaps apart by it. */
  readonly linkOf: (microBatch: number) => Link;
}

export interface ConvBackwardPass extends ConvPass {
  readonly take: TakeGradient;
  /** A layer's gradients of one part have been taken; they are whole after the last part. */
  readonly taken: (layer: string, isWhole: boolean) => Promise<void> | undefined;
}

export class ConvStack {
  readonly #stages: readonly ConvStage[];
  /** Where a part is left for the next one: at the crossing, or at the last stage where there is none. */
  readonly #crossing: number;
  readonly #microBatch: number;
  readonly #observer: PassObserver;

  constructor(stages: readonly ConvStage[], { microBatch, observer }: { microBatch: number; observer: PassObserver }) {
    const crossing = stages.findIndex(({ plan }) => plan.spec.crosses);
    this.#stages = stages;
    this.#crossing = crossing < 0 ? stages.length - 1 : crossing;
    this.#microBatch = microBatch;
    this.#observer = observer;
  }

  /** Borrows images [N,S,S,3]; gives features [N,H*W*C] and what `backward` or `release` will free. */
  async forward(images: Tensor, { step, linkOf }: ConvPass): Promise<{ features: Tensor; saved: ConvTape }> {
    const tape: ConvSaved[][] = [];
    const maps: Tensor[] = [];
    await overlapping(
      partsOf(picturesOf(images), this.#microBatch),
      async (range, microBatch) => {
        const part: ForwardPart = { step, link: linkOf(microBatch), saved: [] };
        const x = await this.#through(0, this.#crossing, slicePictures(images, range, images.shape.slice(1)), part);
        return { part, underway: this.#in(this.#crossing, 'forward', (stage) => stage.forward(x, part.link)) };
      },
      async ({ part, underway }) => {
        const x = await this.#in(this.#crossing, 'forward', (stage) => finish(stage, underway, part));
        maps.push(await this.#through(this.#crossing + 1, this.#stages.length, x, part));
        tape.push(part.saved);
      },
    );
    return { features: flatten(maps), saved: tape };
  }

  /** Takes dFeatures [N,H*W*C], none where nothing below is trained, and frees the tape. */
  async backward(dFeatures: Tensor | undefined, tape: ConvTape, { step, linkOf, take, taken }: ConvBackwardPass): Promise<void> {
    const pictures = tape.reduce((sum, saved) => sum + picturesOf(savedAt(saved, 0).x), 0);
    await overlapping(
      partsOf(pictures, this.#microBatch),
      async (range, microBatch) => {
        const isLast = microBatch === tape.length - 1;
        const part: BackwardPart = {
          ...{ step, take, link: linkOf(microBatch), saved: savedAt(tape, microBatch) },
          taken: (layer) => taken(layer, isLast),
        };
        const dMaps = dFeatures === undefined ? undefined : this.#unflatten(dFeatures, range);
        const dy = await this.#back(this.#stages.length - 1, this.#crossing, dMaps, part);
        return { part, underway: await this.#in(this.#crossing, 'backward', (stage, i) => beginBack(stage, i, dy, part)) };
      },
      async ({ part, underway }) => {
        const dy = await this.#in(this.#crossing, 'backward', () => underway?.finish());
        dispose(await this.#back(this.#crossing - 1, -1, dy, part));
      },
    );
    dispose(dFeatures);
  }

  /** Frees what a forward pass saved, where no backward pass follows. */
  release(tape: ConvTape): void {
    for (const saved of tape) saved.forEach((one, i) => this.#stages[i]?.release(one));
  }

  close(): void {
    for (const stage of this.#stages) stage.close();
  }

  /** Stages from `first` to `end`, without it; takes x, gives the maps of the last one. */
  async #through(first: number, end: number, x: Tensor, part: ForwardPart): Promise<Tensor> {
    let maps = x;
    for (let i = first; i < end; i++) {
      const given = maps;
      maps = await this.#in(i, 'forward', (stage) => finish(stage, stage.forward(given, part.link), part));
    }
    return maps;
  }

  /** Stages from `first` down to `end`, without it; takes dy, gives dx of the last one, where it is wanted. */
  async #back(first: number, end: number, dy: Tensor | undefined, part: BackwardPart): Promise<Tensor | undefined> {
    let d = dy;
    for (let i = first; i > end; i--) {
      const given = d;
      d = await this.#in(i, 'backward', async (stage) => (await beginBack(stage, i, given, part))?.finish());
    }
    return d;
  }

  #in<T>(i: number, phase: Place['phase'], run: (stage: ConvStage, i: number) => T): T {
    const stage = this.#stage(i);
    return this.#observer.during({ layer: stage.plan.spec.name, phase }, () => run(stage, i));
  }

  #stage(i: number): ConvStage {
    const stage = this.#stages[i];
    if (stage === undefined) throw new Error(`there is no convolution ${String(i)}`);
    return stage;
  }

  /** Some pictures' features as maps. */
  #unflatten(features: Tensor, range: PictureRange): Tensor {
    const { height, width, channels } = this.#stage(this.#stages.length - 1).plan.output;
    return slicePictures(features, range, [height, width, channels]);
  }
}

/** A part of the batch on its way forward. */
interface ForwardPart {
  readonly step: number;
  readonly link: Link;
  readonly saved: ConvSaved[];
}

/** And on its way back. */
interface BackwardPart {
  readonly step: number;
  readonly link: Link;
  readonly saved: readonly ConvSaved[];
  readonly take: TakeGradient;
  readonly taken: (layer: string) => Promise<void> | undefined;
}

/** Gives y, and keeps what the stage saved. */
async function finish(
  { plan }: ConvStage,
  underway: Underway<ConvForward>,
  { saved: saves, step }: ForwardPart,
): Promise<Tensor> {
  const { y, saved } = await underway.finish();
  saves.push(saved);
  failpoint(`forward.${plan.spec.name}`, step);
  return y;
}

/** Takes dy; hands the stage's gradients over, and begins dx, where it is wanted. */
async function beginBack(
  stage: ConvStage,
  i: number,
  dy: Tensor | undefined,
  { step, saved: saves, link, take, taken }: BackwardPart,
): Promise<Underway<Tensor> | undefined> {
  const { name } = stage.plan.spec;
  const saved = savedAt(saves, i);
  failpoint(`backward.${name}`, step);
  if (dy === undefined) stage.release(saved);
  const underway = dy === undefined ? undefined : await stage.backward(dy, saved, link, take);
  await taken(name);
  return underway;
}

/** Does `begin` and `end` for every part, each in the order of the parts, with the next part's `begin` between the two. */
async function overlapping<Part, Begun>(
  parts: readonly Part[],
  begin: (part: Part, index: number) => Promise<Begun>,
  end: (begun: Begun) => Promise<void>,
): Promise<void> {
  let endLast = (): Promise<void> => Promise.resolve();
  for (const [index, part] of parts.entries()) {
    const begun = await begin(part, index);
    await endLast();
    endLast = () => end(begun);
  }
  await endLast();
}

function partsOf(pictures: number, size: number): PictureRange[] {
  return Array.from({ length: Math.ceil(pictures / size) }, (_, i) => ({
    start: i * size,
    count: Math.min(size, pictures - i * size),
  }));
}

/** Maps of all parts [n,H,W,C] as the features of all pictures [N,H*W*C]; frees the parts. */
function flatten(parts: readonly Tensor[]): Tensor {
  const rows = parts.map((part) => reshape(part, [picturesOf(part), -1]));
  const [only] = rows;
  const features = rows.length === 1 && only !== undefined ? only.clone() : tf.concat(rows, 0);
  dispose(...parts, ...rows);
  return features;
}

function savedAt<Saved>(saves: readonly Saved[], index: number): Saved {
  const saved = saves[index];
  if (saved === undefined) throw new Error(`the forward pass saved nothing at ${String(index)}`);
  return saved;
}
