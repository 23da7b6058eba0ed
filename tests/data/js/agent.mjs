// An agent on the official JavaScript SDK: it streams two words and an artifact, asks once, and can be cancelled.
import { randomUUID } from "node:crypto";
import express from "express";
import { A2A_PROTOCOL_VERSION, AGENT_CARD_PATH, Role, TaskState } from "@a2a-js/sdk";
import { AgentEvent, DefaultRequestHandler, InMemoryTaskStore } from "@a2a-js/sdk/server";
import { UserBuilder, agentCardHandler, jsonRpcHandler, restHandler } from "@a2a-js/sdk/server/express";

const part = (value) => ({ content: { $case: "text", value }, metadata: undefined, filename: "", mediaType: "text/plain" });
const cancelled = new Set();

class Parrot {
  cancelTask = async (taskId) => cancelled.add(taskId);

  async execute(context, bus) {
    const { taskId, contextId, userMessage, task } = context;
    const ids = { taskId, contextId, metadata: undefined };
    const status = (state, text) => ({
      state,
      timestamp: new Date().toISOString(),
      message: text && {
        role: Role.ROLE_AGENT, messageId: randomUUID(), parts: [part(text)], taskId, contextId,
        extensions: [], metadata: undefined, referenceTaskIds: [],
      },
    });
    const say = (state, text) => bus.publish(AgentEvent.statusUpdate({ ...ids, status: status(state, text) }));
    const told = userMessage.parts.map((one) => one.content.value).join(" ");
    const begun = { id: taskId, contextId, status: status(TaskState.TASK_STATE_SUBMITTED), artifacts: [], history: [userMessage] };
    bus.publish(AgentEvent.task(task ?? { ...begun, metadata: undefined }));
    if (told === "ask") {
      say(TaskState.TASK_STATE_INPUT_REQUIRED, "Which colour?");
      return bus.finished();
    }
    say(TaskState.TASK_STATE_WORKING, "listening");
    while (told === "hold" && !cancelled.has(taskId)) await new Promise((resolve) => setTimeout(resolve, 20));
    if (cancelled.has(taskId)) {
      say(TaskState.TASK_STATE_CANCELED);
      return bus.finished();
    }
    const artifact = { artifactId: "a1", name: "words", description: "", parts: [part(`you said: ${told}`)], extensions: [] };
    bus.publish(AgentEvent.artifactUpdate({ ...ids, artifact: { ...artifact, metadata: undefined }, append: false, lastChunk: true }));
    say(TaskState.TASK_STATE_COMPLETED);
    bus.finished();
  }
}

const app = express();
const server = app.listen(0, "127.0.0.1", () => {
  const url = `http://127.0.0.1:${server.address().port}`;
  const rest = process.argv[2] === "HTTP+JSON";
  const card = {
    name: "Parrot", description: "Says again what it is told.", version: "1.0.0", documentationUrl: "", signatures: [],
    supportedInterfaces: [
      { url: rest ? `${url}/rest` : `${url}/`, protocolBinding: process.argv[2], tenant: "", protocolVersion: A2A_PROTOCOL_VERSION },
    ],
    capabilities: { streaming: true, pushNotifications: false, extensions: [], extendedAgentCard: false },
    securitySchemes: {}, securityRequirements: [], defaultInputModes: ["text"], defaultOutputModes: ["text"],
    skills: [
      {
        id: "repeat", name: "Repeat", description: "Says it again.", tags: [], examples: [], inputModes: [], outputModes: [],
        securityRequirements: [],
      },
    ],
  };
  const requestHandler = new DefaultRequestHandler(card, new InMemoryTaskStore(), new Parrot());
  app.use(`/${AGENT_CARD_PATH}`, agentCardHandler({ agentCardProvider: requestHandler }));
  const faces = { requestHandler, userBuilder: UserBuilder.noAuthentication };
  app.use(rest ? "/rest" : "/", rest ? restHandler(faces) : jsonRpcHandler(faces));
  console.log(url);
});
