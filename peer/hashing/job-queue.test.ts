import { describe, expect, test } from 'vitest'
import { JobQueue } from './job-queue.ts'

class Steps {
  readonly name: string
  readonly size: number
  left: number
  constructor(name: string, size: number, left = 1) {
    this.name = name
    this.size = size
    this.left = left
  }
  get exhausted(): boolean {
    return this.left === 0
  }
}

/** What comes out of the queue, one step of a large file at a time. */
function drain(queue: JobQueue<string, Steps>, steps: number): string[] {
  const out: string[] = []
  for (let next = queue.next(); next && out.length < steps; next = queue.next()) {
    if ('commit' in next) out.push(next.commit)
    else if ('small' in next) out.push(`${next.small.length} small`)
    else {
      next.large.left--
      queue.putBack(next.large)
      out.push(next.large.name)
    }
  }
  return out
}

describe('the job queue', () => {
  test('lets large files take turns', () => {
    const queue = new JobQueue<string, Steps>()
    queue.addLarge(new Steps('A', 1, 3))
    queue.addLarge(new Steps('B', 1, 2))
    queue.addLarge(new Steps('C', 1, 1))
    expect(drain(queue, 10)).toEqual(['A', 'B', 'C', 'A', 'B', 'A'])
  })

  test('gives small files together, in turn with large ones', () => {
    const queue = new JobQueue<string, Steps>()
    for (let i = 0; i < 100; i++) queue.addSmall(new Steps(`s${i}`, 1000))
    queue.addLarge(new Steps('A', 1, 3))
    expect(drain(queue, 10)).toEqual(['64 small', 'A', '36 small', 'A', 'A'])
  })

  test('bounds the bytes of small files in one batch', () => {
    const queue = new JobQueue<string, Steps>()
    for (let i = 0; i < 20; i++) queue.addSmall(new Steps(`s${i}`, 256 * 1024))
    expect(drain(queue, 10)).toEqual(['8 small', '8 small', '4 small'])
  })

  test('puts pieces first, but lets other work through now and then', () => {
    const queue = new JobQueue<string, Steps>()
    for (let i = 0; i < 20; i++) queue.addCommit('piece')
    queue.addLarge(new Steps('A', 1, 5))
    const out = drain(queue, 30)
    expect(out.slice(0, 9)).toEqual([...new Array(8).fill('piece'), 'A'])
    expect(out.filter((name) => name === 'A')).toHaveLength(5)
    expect(out.filter((name) => name === 'piece')).toHaveLength(20)
  })

  test('forgets work that was given up while it waited', () => {
    const queue = new JobQueue<string, Steps>()
    const [small, large] = [new Steps('s', 1), new Steps('A', 1)]
    queue.addSmall(small)
    queue.addLarge(large)
    small.left = 0
    large.left = 0
    expect(queue.isEmpty).toBe(true)
    expect(queue.next()).toBeUndefined()
  })
})
