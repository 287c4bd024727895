import { readFileSync } from 'node:fs'
import { credentials, loadPackageDefinition, type ServiceClientConstructor } from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'
import { projectFile } from '../common/project.ts'

/**
 * A gRPC client that knows nothing of the project but its proto file, as one in another language would be:
 * grpc_check HOST:PORT services | download NAME FILE | refuse-download NAME | upload NAME TEXT | refuse-upload NAME
 */

type Answer = { ok: boolean; message: string; content?: Buffer }
type Unary = (
  request: object,
  options: { deadline: number },
  callback: (error: Error | null, answer: Answer) => void,
) => void

const [address = '', action = '', name = '', value = ''] = process.argv.slice(2)
const definition = loadSync(projectFile('proto/files.proto'))
const { FileService } = loadPackageDefinition(definition).fileservice as unknown as {
  FileService: ServiceClientConstructor
}
const client = new FileService(address, credentials.createInsecure())

function call(method: 'Upload' | 'Download', request: object): Promise<Answer> {
  return new Promise((resolve, reject) => {
    ;(client[method] as Unary).call(client, request, { deadline: Date.now() + 5000 }, (error, answer) =>
      error ? reject(error) : resolve(answer),
    )
  })
}

async function services(): Promise<string[]> {
  const found: string[] = []
  const health = loadSync(projectFile('node_modules/grpc-health-check/proto/health/v1/health.proto'))
  const Health = (
    loadPackageDefinition(health).grpc as never as { health: { v1: { Health: ServiceClientConstructor } } }
  ).health.v1.Health
  const status = await new Promise((resolve, reject) => {
    const probe = new Health(address, credentials.createInsecure())
    ;(
      probe.Check as (request: object, callback: (error: Error | null, answer: { status: unknown }) => void) => void
    ).call(probe, { service: '' }, (error, answer) => (error ? reject(error) : resolve(answer.status)))
  })
  if (status !== 1 && status !== 'SERVING') throw new Error(`health says ${String(status)}`)
  const reflection = loadSync(
    projectFile('node_modules/@grpc/reflection/build/proto/grpc/reflection/v1/reflection.proto'),
  )
  const { ServerReflection } = (
    loadPackageDefinition(reflection).grpc as never as {
      reflection: { v1: { ServerReflection: ServiceClientConstructor } }
    }
  ).reflection.v1
  const prober = new ServerReflection(address, credentials.createInsecure())
  const stream = (
    prober.ServerReflectionInfo as () => import('@grpc/grpc-js').ClientDuplexStream<
      object,
      { listServicesResponse?: { service: { name: string }[] } }
    >
  ).call(prober)
  stream.write({ listServices: '' })
  for await (const answer of stream) {
    found.push(
      ...(
        (answer as { listServicesResponse?: { service: { name: string }[] } }).listServicesResponse?.service ?? []
      ).map((s) => s.name),
    )
    stream.end()
  }
  return found
}

function expect(condition: boolean, what: unknown): void {
  process.stdout.write(`${JSON.stringify(what)}\n`)
  if (!condition) process.exitCode = 1
}

switch (action) {
  case 'services': {
    const names = await services()
    expect(names.includes('fileservice.FileService') && names.includes('p2p.v1.Transfer'), names)
    break
  }
  case 'download': {
    const { ok, message, content } = await call('Download', { filename: name })
    expect(ok && content?.equals(readFileSync(value)) === true, { ok, message })
    break
  }
  case 'refuse-download': {
    const { ok, message } = await call('Download', { filename: name })
    expect(!ok && message !== '', { ok, message })
    break
  }
  case 'upload': {
    const { ok, message } = await call('Upload', { filename: name, content: Buffer.from(value) })
    expect(ok, { ok, message })
    break
  }
  case 'refuse-upload': {
    const { ok, message } = await call('Upload', { filename: name, content: Buffer.from('x') })
    expect(!ok && message !== '', { ok, message })
    break
  }
  default:
    expect(false, `unknown action ${action}`)
}
process.exit()
