import { expect, test } from 'vitest'
import type { EventDraft } from '../../common/events/event.ts'
import type { NetworkLevel } from '../../common/schemas.ts'
import { LevelWatch } from './level-watch.ts'

function world() {
  const told: EventDraft[] = []
  let level: NetworkLevel['level'] = 'maestro'
  const watch = new LevelWatch({
    level: () => ({ level, text: `by the ${level}` }),
    tell: (draft) => void told.push(draft),
  })
  const see = (...levels: NetworkLevel['level'][]) => {
    for (const seen of levels) {
      level = seen
      watch.tick()
    }
  }
  return { told, see }
}

test('what it begins with is no news', () => {
  const { told, see } = world()
  see('alone', 'alone', 'alone')
  expect(told).toEqual([])
})

test('a worse level that lasts is told, and so is a better one', () => {
  const { told, see } = world()
  see('maestro', 'maestro', 'ring', 'ring', 'ring', 'friends', 'friends', 'maestro', 'maestro')
  expect(told).toEqual([
    { type: 'network.degraded', data: { before: 'maestro', level: 'ring', text: 'by the ring' } },
    { type: 'network.degraded', data: { before: 'ring', level: 'friends', text: 'by the friends' } },
    { type: 'network.restored', data: { before: 'friends', level: 'maestro', text: 'by the maestro' } },
  ])
})

test('a level that is seen once only is not told', () => {
  const { told, see } = world()
  see('maestro', 'maestro', 'ring', 'maestro', 'alone', 'maestro', 'maestro')
  expect(told).toEqual([])
})
