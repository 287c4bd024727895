import { setImmediate } from 'node:timers/promises'

/**
 * What comes together, in one piece: whatever is there within a turn of the event loop, at most `most`. Of the source no
 * more than one further item is asked for while a piece is worked on; where it fails, that is told after what came before.
 */
export async function* gathered<T>(source: AsyncIterable<T>, most: number): AsyncGenerator<T[]> {
  const iterator = source[Symbol.asyncIterator]()
  let next = iterator.next()
  for (;;) {
    const first = await next
    if (first.done) return
    const piece = [first.value]
    const turn = setImmediate(undefined)
    next = iterator.next()
    while (piece.length < most) {
      const more = await Promise.race([next, turn]).catch(() => undefined)
      if (more === undefined || more.done) break
      piece.push(more.value)
      next = iterator.next()
    }
    next.catch(() => undefined)
    yield piece
  }
}
