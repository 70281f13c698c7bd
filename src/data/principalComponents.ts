// Eigenvectors of a small symmetric matrix by Jacobi's rotations: each sets one pair of off-diagonal values to zero, and the sum of their
// squares falls until nothing is left.

export interface Component {
  /** Eigenvalue. */
  readonly variance: number;
  /** Unit length; the sign is fixed by its largest part, which is positive. */
  readonly direction: readonly number[];
}

const sweeps = 50;

/** The principal components of a covariance [n,n], the largest variance first. */
export function principalComponents(covariance: readonly (readonly number[])[]): Component[] {
  const n = covariance.length;
  const a = covariance.map((row) => [...row]);
  const vectors = covariance.map((_, i) => covariance.map((__, j) => (i === j ? 1 : 0)));
  const at = (matrix: readonly (readonly number[])[], i: number, j: number): number => matrix[i]?.[j] ?? 0;
  const set = (matrix: number[][], i: number, j: number, value: number): void => {
    const row = matrix[i];
    if (row !== undefined) row[j] = value;
  };
  for (let sweep = 0; sweep < sweeps; sweep++) {
    for (let p = 0; p < n; p++) {
      for (let q = p + 1; q < n; q++) {
        if (at(a, p, q) === 0) continue;
        const theta = (at(a, q, q) - at(a, p, p)) / (2 * at(a, p, q));
        const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1));
        const c = 1 / Math.sqrt(t * t + 1);
        const s = t * c;
        for (let k = 0; k < n; k++) {
          const [kp, kq] = [at(a, k, p), at(a, k, q)];
          set(a, k, p, c * kp - s * kq);
          set(a, k, q, s * kp + c * kq);
        }
        for (let k = 0; k < n; k++) {
          const [pk, qk] = [at(a, p, k), at(a, q, k)];
          set(a, p, k, c * pk - s * qk);
          set(a, q, k, s * pk + c * qk);
          const [vp, vq] = [at(vectors, k, p), at(vectors, k, q)];
          set(vectors, k, p, c * vp - s * vq);
          set(vectors, k, q, s * vp + c * vq);
        }
      }
    }
  }
  return covariance
    .map((_, i) => {
      const direction = vectors.map((row) => row[i] ?? 0);
      const largest = direction.reduce((most, part) => (Math.abs(part) > Math.abs(most) ? part : most), 0);
      return { variance: Math.max(0, at(a, i, i)), direction: direction.map((part) => (largest < 0 ? -part : part)) };
    })
    .sort((one, other) => other.variance - one.variance);
}
