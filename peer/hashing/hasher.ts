import type { Manifest } from '../../common/merkle.ts'

/** Hashing of file contents, off the event loop. */
export interface Hasher {
  /**
   * The manifest of the first `size` bytes of an open file.
   * @throws NetworkError `conflict` where the file is shorter
   */
  hashFile(fd: number, size: number, signal?: AbortSignal, onProgress?: (bytes: number) => void): Promise<Manifest>
  /**
   * For each piece, whether the bytes in the file are right.
   * @param pieces only these, ascending, and the answer in their order (default: all)
   */
  verifyFile(fd: number, manifest: Manifest, signal?: AbortSignal, pieces?: readonly number[]): Promise<boolean[]>
  /**
   * Verifies one piece, and only if it is right writes it at its place. The memory of `parts` is given away.
   * @returns whether it was right and is written
   * @throws NetworkError `unavailable` where the disk is full
   */
  commitPiece(fd: number, manifest: Manifest, index: number, parts: Uint8Array[]): Promise<boolean>
  close(): Promise<void>
}
