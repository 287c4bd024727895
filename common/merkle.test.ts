import { describe, expect, test } from 'vitest'
import { EMPTY_ID, LEAF_SIZE, MAX_PIECE_SIZE, manifestOf, pieceSizeFor, proveManifest, sha256 } from './merkle.ts'

/** Pieces roots that libtorrent 2 computes for files whose byte i is (31·i + 7) mod 251. */
const LIBTORRENT: Record<number, string> = {
  1: 'ca358758f6d27e6cf45272937977a748fd88391db679ceda7dc7bf1f005ee879',
  16384: 'e6494c86814963a758f59bf832e78df26f8415657cdf64bd2eb1a3e18721bcc9',
  16385: '4cfab4c81a38928437280fa27f6956592e9d5ecac29e7d318434d70e5a64b1c0',
  40000: 'f3af73764d3555bfc827399e9bfa56bb753d91382f4d34b48c91974ce3a727c0',
  262144: 'f8de565010174c6adece653ef5ff22d3c8caef9cd7d9cb280a23c80ca94f4f67',
  262145: 'c8d106842cf151a97903cff8e2897b64af197db45d926485bfeacf9aa72f5e46',
  524288: '5955dc18c7ff3dec713a36ba2e681a3dbee362b3e44454574c6fa3579c991c86',
  600000: '76cc38b88b8fc4949c2de03ef3f948b02a36c8a0037e9aabdbf611867fe8cdd6',
  1000000: '97b825e627c971a32d61f1763f527fb7e13e4b973cab00963a3d9bf74afe6e92',
  786432: 'ed97a5291ef0dc40e1c9b64e980b6b6aca4d2111b1781d8be314ef68fc73fa6b',
  1310797: '6f13ff965a9fe4bbda1344d91fa634f204530483d4d4aff30463032de22fdc93',
}

const pattern = (size: number) => Buffer.from(Uint8Array.from({ length: size }, (_, i) => (i * 31 + 7) % 251))

describe('content id', () => {
  for (const [size, root] of Object.entries(LIBTORRENT))
    test(`of ${size} bytes is the pieces root that libtorrent computes`, () => {
      expect(manifestOf(pattern(Number(size))).id).toBe(root)
    })

  test('of at most 16 KiB is the plain SHA-256', () => {
    const data = pattern(LEAF_SIZE - 1)
    expect(manifestOf(data).id).toBe(sha256(data).toString('hex'))
    expect(manifestOf(Buffer.alloc(0)).id).toBe(EMPTY_ID)
  })
})

describe('a manifest from a stranger', () => {
  const honest = manifestOf(pattern(600_000))

  test('is accepted where it leads to the content id', () => {
    expect(proveManifest(honest.id, honest)).toEqual(honest)
  })

  test.each([
    ['a changed hash', { ...honest, hashes: Buffer.from(honest.hashes).fill(1, 0, 1) }],
    ['a missing hash', { ...honest, hashes: honest.hashes.subarray(32) }],
    ['another size', { ...honest, size: honest.size + 262_144 }],
    ['another piece size', { ...honest, pieceSize: honest.pieceSize * 2 }],
    ['a negative size', { ...honest, size: -1 }],
    ['a size beyond the largest', { ...honest, size: 2 ** 41 }],
  ])('with %s is refused', (_, claim) => {
    expect(() => proveManifest(honest.id, claim)).toThrow(/false manifest/)
  })
})

test('piece size grows with the file, from 256 KiB to 4 MiB', () => {
  expect(pieceSizeFor(0)).toBe(256 * 1024)
  expect(pieceSizeFor(256 * 1024 * 1024)).toBe(256 * 1024)
  expect(pieceSizeFor(256 * 1024 * 1024 + 1)).toBe(512 * 1024)
  expect(pieceSizeFor(2 ** 30)).toBe(1024 * 1024)
  expect(pieceSizeFor(2 ** 40)).toBe(MAX_PIECE_SIZE)
})
