import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { AgentClient } from './agent-client.ts'
import { scratch, startPeer, until } from './process.ts'
import { type Measurement, say } from './report.ts'

/** From the start of the process until 10,000 files that did not change are served again. */
export async function restart(): Promise<Measurement[]> {
  const FILES = 10_000
  say(`restart: an agent with ${FILES.toLocaleString('en-US')} files …`)
  const folder = scratch('disk')
  try {
    for (let d = 0; d < 100; d++) {
      mkdirSync(join(folder.path, 'P1', `folder-${d}`), { recursive: true })
      for (let i = 0; i < FILES / 100; i++)
        writeFileSync(join(folder.path, 'P1', `folder-${d}`, `file-${i}.txt`), `file ${i} of ${d}\n`.repeat(200))
    }
    const first = await timeToReady(folder.path, FILES)
    const again = await timeToReady(folder.path, FILES)
    return [
      { what: 'first start with 10,000 files: all hashed', value: first, unit: 's' },
      {
        what: 'restart with 10,000 unchanged files: catalog ready',
        value: again,
        unit: 's',
        target: { atMost: 1.5 },
        baseline: { what: 'the first start', value: first, unit: 's' },
        note: 'from the start of the process',
      },
    ]
  } finally {
    folder.remove()
  }
}

async function timeToReady(folder: string, files: number): Promise<number> {
  const begin = performance.now()
  const agent = await startPeer(folder, 'P1', 19_010)
  try {
    const client = new AgentClient(agent.url)
    const options = { child: agent.child, everyMs: 10 }
    await until(`the agent did not find ${files} files`, 120_000, () => client.hasScanned(files), options)
    return (performance.now() - begin) / 1000
  } finally {
    await agent.stop()
  }
}
