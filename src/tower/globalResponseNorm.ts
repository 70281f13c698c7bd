// Response normalisation over the maps of both towers (Caffe's; docs/adr/0012-global-lrn.md): y = x / u^beta with u = k + alpha * (sum of x^2 over
// 5 neighbouring maps), where the last maps of tower 0 and the first of tower 1 are neighbours. So the two border maps cross, and on the
// way back their share of the sum. x [N,H,W,C], borders [N,H,W,R] with R the radius.
// Invariant: u of a tower's own maps is that of the merged network; a map's neighbours on the other side are seen, never normalised here.

import type { TowerIndex } from '../spec/layout.ts';
import type { Send } from './crossing.ts';
import { matMul } from './linearMap.ts';
import type { ResponseNormRule } from './responseNorm.ts';
import { dispose } from './tensorflow.ts';
import type { Tensor } from './tensorflow.ts';
import tf from '@tensorflow/tfjs-node-gpu';

export class GlobalResponseNorm {
  readonly #channels: number;
  readonly #border: number;
  readonly #tower: TowerIndex;
  /** alpha where two maps are neighbours [C + R, C]: the peer's border maps lie beside the tower's own, on their side. */
  readonly #band: Tensor;
  readonly #bias: Tensor;
  readonly #slope: Tensor;

  /** For beta = 0.75, the paper's. */
  constructor(channels: number, { tower, rule }: { tower: TowerIndex; rule: ResponseNormRule }) {
    if (rule.beta !== 0.75) throw new Error(`the global response norm knows beta 0.75, not ${String(rule.beta)}`);
    this.#channels = channels;
    this.#border = Math.min(rule.radius, channels);
    this.#tower = tower;
    const before = tower === 0 ? 0 : this.#border;
    const band = new Float32Array((channels + this.#border) * channels);
    for (let from = 0; from < channels + this.#border; from++) {
      for (let to = 0; to < channels; to++) {
        if (Math.abs(from - before - to) <= rule.radius) band[from * channels + to] = rule.alpha;
      }
    }
    this.#band = tf.keep(tf.tensor2d(band, [channels + this.#border, channels]));
    this.#bias = tf.keep(tf.scalar(rule.bias));
    this.#slope = tf.keep(tf.scalar(2 * rule.beta));
  }

  /** Borrows x; gives y and what `backward` needs. */
  async forward(x: Tensor, send: Send): Promise<{ y: Tensor; saved: readonly [u: Tensor, scale: Tensor] }> {
    const theirs = await this.#swapBorder(x, send);
    const u = tf.tidy(() => tf.add(this.#sumOverNeighbours(tf.square(x), tf.square(theirs)), this.#bias));
    const scale = tf.tidy(() => {
      const root = tf.rsqrt(u);
      return tf.mul(root, tf.sqrt(root));
    });
    const y = tf.mul(x, scale);
    theirs.dispose();
    return { y, saved: [u, scale] };
  }

  /** dx from dy; frees nothing. */
  async backward(
    dy: Tensor,
    { x, y, saved: [u, scale] }: { x: Tensor; y: Tensor; saved: readonly [Tensor, Tensor] },
    send: Send,
  ): Promise<Tensor> {
    const mine = tf.tidy(() => tf.div(tf.mul(dy, y), u));
    const theirs = await this.#swapBorder(mine, send);
    const dx = tf.tidy(() => tf.sub(tf.mul(dy, scale), tf.mul(tf.mul(x, this.#slope), this.#sumOverNeighbours(mine, theirs))));
    dispose(mine, theirs);
    return dx;
  }

  close(): void {
    dispose(this.#band, this.#bias, this.#slope);
  }

  async #swapBorder(maps: Tensor, send: Send): Promise<Tensor> {
    const start = this.#tower === 0 ? this.#channels - this.#border : 0;
    const border = tf.slice(maps, [0, 0, 0, start], [-1, -1, -1, this.#border]);
    const receive = send(border);
    border.dispose();
    return receive();
  }

  /** alpha times the sum over each own map's neighbours. */
  #sumOverNeighbours(own: Tensor, theirs: Tensor): Tensor {
    const maps = tf.concat(this.#tower === 0 ? [own, theirs] : [theirs, own], 3);
    const rows = tf.reshape(maps, [-1, this.#channels + this.#border]);
    return tf.reshape(matMul(rows, this.#band, false, false), own.shape);
  }
}
