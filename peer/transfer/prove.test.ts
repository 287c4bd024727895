import { expect, test } from 'vitest'
import { MAX_FILE_SIZE, MAX_PIECE_SIZE, type Manifest, rootOf } from '../../common/merkle.ts'
import { prove } from './prove.ts'

const hashes = Buffer.alloc((MAX_FILE_SIZE / MAX_PIECE_SIZE) * 32, 7)
const largest: Manifest = {
  id: rootOf(hashes, MAX_PIECE_SIZE),
  size: MAX_FILE_SIZE,
  pieceSize: MAX_PIECE_SIZE,
  hashes,
}
const never = new AbortController().signal

test('the largest manifest is proven while other work goes on', async () => {
  let turns = 0
  let over = false
  const other = () => {
    turns++
    if (!over) setImmediate(other)
  }
  other()
  expect((await prove(largest.id, largest, never)).hashes.equals(hashes)).toBe(true)
  over = true
  expect(turns).toBeGreaterThan(50)
})

test('false ones are refused, those that come together one after the other', async () => {
  const order: string[] = []
  const wrong = { ...largest, hashes: Buffer.concat([Buffer.alloc(32), hashes.subarray(32)]) }
  const all = [wrong, wrong, largest].map((claim, i) =>
    prove(largest.id, claim, never).then(
      () => order.push(`${i} right`),
      ({ code }) => order.push(`${i} ${code}`),
    ),
  )
  await Promise.all(all)
  expect(order).toEqual(['0 corrupt', '1 corrupt', '2 right'])
})

test('who wants it no more does not hold up the others', async () => {
  const gone = new AbortController()
  const given = [prove(largest.id, largest, gone.signal), prove(largest.id, largest, gone.signal)]
  gone.abort()
  const cancelled = { status: 'rejected', reason: expect.objectContaining({ code: 'cancelled' }) }
  expect(await Promise.allSettled(given)).toEqual([cancelled, cancelled])
  expect((await prove(largest.id, largest, never)).id).toBe(largest.id)
})
