import { setImmediate } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { gathered } from './gathered.ts'

async function piecesOf<T>(source: AsyncIterable<T>, most: number): Promise<(T[] | string)[]> {
  const pieces: (T[] | string)[] = []
  try {
    for await (const piece of gathered(source, most)) pieces.push(piece)
  } catch (error) {
    pieces.push((error as Error).message)
  }
  return pieces
}

test('what is there together comes together, bounded, and what comes later comes later', async () => {
  async function* source() {
    yield* [1, 2, 3, 4, 5]
    await setImmediate()
    await setImmediate()
    yield 6
  }
  expect(await piecesOf(source(), 3)).toEqual([[1, 2, 3], [4, 5], [6]])
})

test('nothing comes of nothing', async () => {
  async function* source() {}
  expect(await piecesOf(source(), 3)).toEqual([])
})

test('a failure is told after what came before it', async () => {
  async function* source() {
    yield* [1, 2]
    throw new Error('cut off')
  }
  expect(await piecesOf(source(), 3)).toEqual([[1, 2], 'cut off'])
})

test('a source that ends while its last piece is worked on ends quietly', async () => {
  let asked = 0
  async function* source() {
    for (; asked < 4; asked++) yield asked
  }
  const pieces = gathered(source(), 2)
  expect(await pieces.next()).toEqual({ done: false, value: [0, 1] })
  await setImmediate()
  expect(asked).toBeLessThanOrEqual(2)
  expect(await pieces.next()).toEqual({ done: false, value: [2, 3] })
  expect(await pieces.next()).toEqual({ done: true, value: undefined })
})
